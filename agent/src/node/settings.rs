//! What the flags mean to the parts of an agent.

use std::path::Path;

use crate::{
    bpf::CaptureConfig,
    config::{AgentArguments, INBOUND_PORT, KernelArguments, OUTBOUND_PORT},
    netns::ListenerPorts,
    observe::{
        AccessLog, Requests,
        otlp::{self, OtlpError, SpanQueue},
        requests::{LogRule, RequestOptions},
    },
    snapshot::build::{Context, PodScope},
};

/// Label sets at most; further ones share one.
pub(super) const SERIES: usize = 20_000;
/// Ports of the agent's listeners in each pod.
pub(super) const LISTENER_PORTS: ListenerPorts =
    ListenerPorts { outbound: OUTBOUND_PORT, inbound: INBOUND_PORT };

/// The records of requests, and the task that exports their spans.
pub(super) fn requests(arguments: &AgentArguments, access_log: &AccessLog) -> Result<Requests, OtlpError> {
    let (sample, min_status) = (arguments.access_log_sample, arguments.access_log_min_status);
    let mut spans = SpanQueue::off();
    if let Some(endpoint) = &arguments.otlp_endpoint {
        spans = SpanQueue::on(arguments.trace_sample);
        otlp::start(endpoint, spans.clone())?;
    }
    let log_rule = LogRule { sample, min_status };
    let options = RequestOptions { series_limit: SERIES, log: access_log.clone(), log_rule, spans };
    Ok(Requests::new(arguments.worker_count(), options))
}

/// What a snapshot is built with beside the objects.
pub(super) fn context(arguments: &AgentArguments) -> Context {
    Context {
        node: arguments.node.as_str().into(),
        zone: arguments.zone.as_deref().map(Into::into),
        trust_domain: arguments.trust_domain.as_str().into(),
        cluster: arguments.cluster.as_str().into(),
        mtls: arguments.mtls.into(),
        generation: 0,
        pods: if arguments.kubernetes { PodScope::OfThisNode } else { PodScope::All },
    }
}

/// Settings of the capture.
pub(super) fn capture(arguments: &KernelArguments, cgroup_root: &Path) -> CaptureConfig {
    CaptureConfig {
        cgroup_root: cgroup_root.to_path_buf(),
        bpffs_dir: arguments.bpffs.clone(),
        mark: arguments.mark,
        max_pods: arguments.max_pods,
        max_flows: arguments.max_flows,
        max_excluded_ports: arguments.max_excluded_ports,
        max_node_addresses: arguments.max_node_addresses,
        unknown_pod_limit: arguments.unknown_pod_limit.0,
        heartbeat_limit: arguments.heartbeat_limit,
        outbound_port: OUTBOUND_PORT,
        inbound_port: INBOUND_PORT,
    }
}
