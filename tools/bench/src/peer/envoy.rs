//! Envoy's TCP proxy, with one worker.

use serde_json::{Value, json};

use crate::hello;

use super::{Front, SUITES_12, Setup};

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
    let filters = json!([{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]);
    let mut listener = json!({
        "address": address(setup.listen),
        "tcp_backlog_size": 4096,
        "filter_chains": chains(setup, &filters),
    });
    if let Front::Names(_) = setup.front {
        listener["listener_filters"] = json!([{
            "name": "envoy.filters.listener.tls_inspector",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
            },
        }]);
    }
    let whole = json!({
        "static_resources": {
            "listeners": [listener],
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

fn chains(setup: &Setup, filters: &Value) -> Vec<Value> {
    match &setup.front {
        Front::Plain => vec![json!({"filters": filters})],
        Front::Tls(certificate) => {
            let tls = json!({
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_2",
                        "tls_maximum_protocol_version": "TLSv1_3",
                        "cipher_suites": SUITES_12.split(':').collect::<Vec<_>>(),
                        "ecdh_curves": ["X25519"],
                    },
                    "tls_certificates": [{
                        "certificate_chain": {"filename": certificate.chain},
                        "private_key": {"filename": certificate.key},
                    }],
                },
            });
            let socket = json!({"name": "envoy.transport_sockets.tls", "typed_config": tls});
            vec![json!({"filters": filters, "transport_socket": socket})]
        }
        Front::Names(names) => (0..*names)
            .map(hello::name)
            .map(|name| json!({"filter_chain_match": {"server_names": [name]}, "filters": filters}))
            .collect(),
    }
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}
