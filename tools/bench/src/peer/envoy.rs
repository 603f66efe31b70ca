//! Envoy's TCP proxy, with one worker.

use serde_json::{Value, json};

use super::Setup;

pub(super) fn arguments(file: &str) -> Vec<String> {
    let fixed = "--concurrency 1 --disable-hot-restart --log-level warn --config-path";
    fixed.split(' ').chain([file]).map(str::to_owned).collect()
}

pub(super) fn configuration(setup: &Setup) -> String {
    let endpoints: Vec<Value> = setup
        .backends
        .iter()
        .map(|backend| json!({"endpoint": {"address": address(backend.port())}}))
        .collect();
    // The defaults of the circuit breaker, 1,024 connections, would refuse those of `idle`.
    let limit = setup.connections_max;
    let proxy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "bench",
    });
    let whole = json!({
        "static_resources": {
            "listeners": [{
                "address": address(setup.listen),
                "tcp_backlog_size": 4096,
                "filter_chains": [{
                    "filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}],
                }],
            }],
            "clusters": [{
                "name": "bench",
                "type": "STATIC",
                "connect_timeout": "5s",
                "lb_policy": "LEAST_REQUEST",
                "circuit_breakers": {"thresholds": [{
                    "max_connections": limit,
                    "max_pending_requests": limit,
                    "max_requests": limit,
                }]},
                "load_assignment": {
                    "cluster_name": "bench",
                    "endpoints": [{"lb_endpoints": endpoints}],
                },
            }],
        },
    });
    format!("{whole:#}\n")
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}
