//! A large cluster builds fast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, sync::Arc};

use super::{build, context, inputs};
use crate::snapshot::input::{EndpointRef, SERVICE_LABEL};

#[test]
fn ten_thousand_services_with_ten_endpoints_each() {
    let template = inputs(
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {clusterIP: 10.9.0.1, ports: [{port: 80}]}}\n---\n\
         {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: s}}, addressType: IPv4, ports: [{port: 80}], endpoints: []}\n---\n\
         {apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: t}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], nodeName: one}]}",
    );
    let endpoint = template.endpoint_slices[1].endpoints.get(0).unwrap().unpacked();
    let mut large = crate::snapshot::input::Inputs::default();
    for number in 0..10_000_u32 {
        let (mut service, mut slice) =
            ((*template.services[0]).clone(), (*template.endpoint_slices[0]).clone());
        service.metadata.name = format!("s{number}").into();
        service.cluster_ips = vec![std::net::Ipv4Addr::from(0x0b00_0000 + number).to_string()];
        let label = (SERVICE_LABEL.to_owned(), format!("s{number}"));
        slice.metadata.labels = BTreeMap::from([label]).into();
        slice.endpoints = (0..10)
            .map(|index| {
                let mut endpoint = endpoint.clone();
                endpoint.addresses =
                    vec![std::net::Ipv4Addr::from(0x0a00_0000 + number * 10 + index).to_string()];
                endpoint
            })
            .collect();
        large.services.push(Arc::new(service));
        large.endpoint_slices.push(Arc::new(slice));
    }
    let (first, problems) = build(&large, &context(), None);
    assert_eq!((first.service_ports.len(), problems.len()), (10_000, 0));
    let start = std::time::Instant::now();
    let (second, _) = build(&large, &context(), Some(&first));
    println!("rebuilt in {:?}", start.elapsed());
    assert!(second.service_ports.values().all(|port| port.endpoints.len() == 10));
    // Of one slice that changed only its service is built anew.
    let changed = Arc::make_mut(&mut large.endpoint_slices[77]);
    changed.endpoints = changed.endpoints.iter().take(5).map(EndpointRef::unpacked).collect();
    let (third, _) = build(&large, &context(), Some(&second));
    let anew = third.services.iter().zip(&second.services).filter(|(now, last)| !Arc::ptr_eq(now, last));
    let anew: Vec<&str> = anew.map(|(now, _)| &*now.name).collect();
    assert_eq!(anew, ["s77"]);
    let place = ("11.0.0.77".parse().unwrap(), 80);
    assert_eq!(third.service_ports[&place].endpoints.len(), 5);
    assert_eq!(third.service_ports.len(), 10_000);
}
