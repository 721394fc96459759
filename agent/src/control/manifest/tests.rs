//! There and back again: what is written is read as the same inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path, sync::Arc};

use super::*;
use crate::control::document::{self, Format, Item};

/// Everything that the mesh reads, each field with a value that is not its default.
const ALL: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, uid: n-1, creationTimestamp: "2026-01-02T03:04:05Z", labels: {posthaste.dev/mesh: enabled}, annotations: {posthaste.dev/mtls: strict, other: gone}}
---
apiVersion: v1
kind: Pod
metadata:
  {name: web-1, namespace: shop, uid: p-1, generateName: web-, labels: {app: web}, annotations: {posthaste.dev/netns: /run/netns/x},
   ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-7d4b9c, uid: r-1, controller: true}]}
spec: {nodeName: a, serviceAccountName: web, hostNetwork: true, containers: [{name: main}]}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: bare}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIPs: [10.96.0.9, "fd96::9"]
  ports: [{name: http-web, port: 80, protocol: TCP, appProtocol: http}, {port: 53, protocol: UDP}]
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 77}}
  internalTrafficPolicy: Local
  publishNotReadyAddresses: true
  trafficDistribution: PreferSameZone
  selector: {app: web}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http-web, port: 8080}, {port: 53, protocol: UDP}, {}]
endpoints:
- addresses: [10.0.0.1]
  conditions: {ready: false, serving: false, terminating: true}
  nodeName: a
  zone: z
  hints: {forZones: [{name: z}], forNodes: [{name: a}]}
  targetRef: {kind: Pod, name: web-1, namespace: shop, uid: p-1}
- addresses: [10.0.0.2]
  targetRef: {kind: Node, name: a}
---
apiVersion: posthaste.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: all, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web, sectionName: http-web}]
  loadBalancer: {type: ConsistentHash, consistentHash: {type: Header, name: x-user}, slowStart: 10s}
  hedging: {extraAttempts: 2, delay: 50ms}
  outlierDetection: {interval: 5s, maxEjectionPercent: 10}
  limits: {connections: 7}
  keepAlive: {idleTimeout: 1m}
  retry: {attempts: 3, codes: [500, 503], grpcCodes: [], perTryTimeout: 1s}
  retryConstraint: {budget: {percent: 30, interval: 10s}, minRetryRate: {count: 3, interval: 1s}}
---
apiVersion: posthaste.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  targetRefs: [{kind: Service, name: web, sectionName: http-web}]
  action: DENY
  dryRun: true
  rules:
  - from: [{source: {principals: [a], notPrincipals: [b], namespaces: [c], serviceAccounts: [d/e], ipBlocks: [10.0.0.0/8], notIpBlocks: ["::1"]}}]
    to: [{operation: {ports: ["80"], hosts: [h], methods: [GET], notMethods: [PUT], paths: ["/x/*"], notPaths: ["/y"]}}]
    when: [{key: "request.headers[x]", values: [v], notValues: [w]}]
---
apiVersion: posthaste.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {selector: {matchLabels: {app: web}}}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: budget, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  retryConstraint: {budget: {percent: 10}}
  sessionPersistence: {sessionName: s, type: Cookie}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: web, port: 80}]
  rules:
  - name: first
    matches:
    - {path: {type: PathPrefix, value: /a}, method: GET, headers: [{name: x, value: "1"}], queryParams: [{type: RegularExpression, name: q, value: ".*"}]}
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: other, port: 80}, fraction: {numerator: 1, denominator: 3}}}
    - {type: RequestRedirect, requestRedirect: {scheme: https, path: {type: ReplaceFullPath, replaceFullPath: /x}, statusCode: 301}}
    - {type: CORS, cors: {allowOrigins: ["https://a"], allowCredentials: true, maxAge: 9}}
    backendRefs: [{name: web, namespace: other, port: 80, weight: 0}]
    timeouts: {request: 3s, backendRequest: 1s}
    retry: {codes: [500], attempts: 2, backoff: 10ms}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: without-rules, namespace: shop}
spec: {parentRefs: [{name: web}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: empty-rules, namespace: shop}
spec: {rules: []}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: grpc, namespace: shop}
spec:
  rules: [{matches: [{method: {type: Exact, service: a.B, method: C}}], backendRefs: [{name: web, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: "", kind: Service, name: web}, {group: "", kind: Service}]}
"#;

/// Everything readable, with one origin for all: where an object came from is not part of it.
fn inputs(text: &str, format: Format) -> Inputs {
    let mut inputs = Inputs::default();
    for item in document::parse("f", text, format) {
        match item {
            Item::Good(_, object) | Item::InPart(_, object, _) => object.add_to(&mut inputs),
            Item::Bad(_, problem) => panic!("{problem}"),
            Item::Ignored => {}
        }
    }
    inputs.namespaces.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.pods.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.services.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.endpoint_slices.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.traffic_policies.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.authorization_policies.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.routes.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs.reference_grants.iter_mut().for_each(|object| unplace(&mut Arc::make_mut(object).metadata));
    inputs
}

fn unplace(metadata: &mut input::Metadata) {
    metadata.origin = "somewhere".into();
}

fn round_trip(read: &Inputs) {
    assert_eq!(inputs(&lines(read), Format::Json), *read);
    let yaml = objects(read).map(|object| format!("---\n{}", serde_yaml_ng::to_string(&object).unwrap()));
    assert_eq!(inputs(&yaml.collect::<String>(), Format::Yaml), *read);
}

#[test]
fn every_field_comes_back() {
    let read = inputs(ALL, Format::Yaml);
    assert_eq!((read.pods.len(), read.routes.len(), read.traffic_policies.len()), (2, 4, 2));
    assert_eq!(read.authorization_policies.len(), 2);
    let endpoints = &read.endpoint_slices[0].endpoints;
    assert_eq!(endpoints.get(0).unwrap().pod().unwrap().uid, "p-1");
    assert!(endpoints.get(1).unwrap().pod().is_none());
    assert!(read.namespaces[0].metadata.annotations.get("other").is_none());
    round_trip(&read);
}

#[test]
fn what_cannot_be_read_of_a_policy_comes_back_unread() {
    let text = "apiVersion: posthaste.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b, uid: u}\nspec: {rules: [{from: [{source: {principals: [1]}}]}]}\n";
    let read = inputs(text, Format::Yaml);
    let unread = read.authorization_policies[0].unread.as_ref().unwrap();
    assert_eq!(unread.faults[0].field, "spec.rules[0].from[0].source.principals[0]");
    round_trip(&read);
}

#[test]
fn the_examples_come_back() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
    let mut files = 0;
    for folder in fs::read_dir(examples).unwrap().flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "yaml") {
                round_trip(&inputs(&fs::read_to_string(file.path()).unwrap(), Format::Yaml));
                files += 1;
            }
        }
    }
    assert!(files >= 6, "{files}");
}
