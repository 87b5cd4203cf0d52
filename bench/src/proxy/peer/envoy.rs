//! Envoy: HTTP/1.1 between the two for HTTP/1.1, HTTP/2 for HTTP/2; both sides match the URI SAN
//! as Envoy does it natively.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use identity::x509::X509Svid;
use serde_json::{Value, json};

use super::{Plan, Site, version};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// None where `program` is not there.
pub(crate) async fn plan(program: &Path, site: &Site<'_>) -> Result<Option<Plan>> {
    let program = program.display().to_string();
    let Some(version) = version(&program, "--version").await else {
        return Ok(None);
    };
    let command = |file: std::path::PathBuf| {
        let file = file.display().to_string();
        let fixed = ["--concurrency", "1", "--disable-hot-restart", "-l", "warn"];
        let mut command = vec![program.clone(), "-c".to_owned(), file];
        command.extend(fixed.map(str::to_owned));
        command
    };
    Ok(Some(Plan {
        name: "envoy",
        outbound: command(site.write("envoy-out.json", &outbound(site).to_string())?),
        inbound: command(site.write("envoy-in.json", &inbound(site).to_string())?),
        speaks_h2: true,
        version,
    }))
}

fn outbound(site: &Site<'_>) -> Value {
    let ports = &site.ports;
    let tls =
        |alpn: &[&str]| upstream_tls(site, &site.files.checkout, &site.identities.orders, alpn);
    json!({"static_resources": {
        "listeners": [
            listener("http1", ports.http1, &http("http1"), None),
            listener("http2", ports.http2, &http("http2"), None),
            listener("tcp", ports.tcp, &tcp("tcp"), None),
        ],
        "clusters": [
            cluster("http1", ports.mesh_http1, Some(tls(&["http/1.1"])), false),
            cluster("http2", ports.mesh_http2, Some(tls(&["h2"])), true),
            cluster("tcp", ports.mesh_tcp, Some(tls(&[])), false),
        ],
    }})
}

fn inbound(site: &Site<'_>) -> Value {
    let (ports, backend) = (&site.ports, site.backend);
    let tls = |alpn: &[&str]| {
        Some(downstream_tls(
            site,
            &site.files.orders,
            &site.identities.checkout,
            alpn,
        ))
    };
    let both = ["h2", "http/1.1"];
    json!({"static_resources": {
        "listeners": [
            listener("http1", ports.mesh_http1, &http("http1"), tls(&both)),
            listener("http2", ports.mesh_http2, &http("http2"), tls(&both)),
            listener("tcp", ports.mesh_tcp, &tcp("tcp"), tls(&[])),
        ],
        "clusters": [
            cluster("http1", backend.http1, None, false),
            cluster("http2", backend.http2, None, true),
            cluster("tcp", backend.tcp, None, false),
        ],
    }})
}

fn listener(name: &str, at: SocketAddr, filter: &Value, tls: Option<Value>) -> Value {
    let mut chain = json!({"filters": [filter]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({"name": name, "address": address(at), "filter_chains": [chain]})
}

fn http(cluster: &str) -> Value {
    let router = json!({"@type": format!("{TYPES}.filters.http.router.v3.Router")});
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}});
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!(
                "{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
            ),
            "stat_prefix": cluster,
            "codec_type": "AUTO",
            "generate_request_id": false,
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
            },
        },
    })
}

fn tcp(cluster: &str) -> Value {
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": cluster,
            "cluster": cluster,
        },
    })
}

fn cluster(name: &str, at: SocketAddr, tls: Option<Value>, h2: bool) -> Value {
    let endpoint = json!({"endpoint": {"address": address(at)}});
    let plenty = json!({
        "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
    });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [plenty]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = tls;
    }
    if h2 {
        const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({OPTIONS: {
            "@type": format!("type.googleapis.com/{OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    cluster
}

fn upstream_tls(site: &Site<'_>, own: &Path, peer: &X509Svid, alpn: &[&str]) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "common_tls_context": tls(site, own, peer, alpn),
    }})
}

fn downstream_tls(site: &Site<'_>, own: &Path, peer: &X509Svid, alpn: &[&str]) -> Value {
    json!({"name": "envoy.transport_sockets.tls", "typed_config": {
        "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "disable_stateless_session_resumption": true,
        "disable_stateful_session_resumption": true,
        "common_tls_context": tls(site, own, peer, alpn),
    }})
}

fn tls(site: &Site<'_>, own: &Path, peer: &X509Svid, alpn: &[&str]) -> Value {
    let own = json!({"filename": own});
    json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519"],
        },
        "alpn_protocols": alpn,
        "tls_certificates": [{"certificate_chain": own, "private_key": own}],
        "validation_context": {
            "trusted_ca": {"filename": site.files.roots},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": {"exact": peer.spiffe_id().to_string()}},
            ],
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}
