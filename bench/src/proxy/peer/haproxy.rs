//! HAProxy: HTTP/1.1 between the two for HTTP/1.1, HTTP/2 for HTTP/2. It compares the URI SAN in
//! the DER of the peer's certificate: of the caller once a connection, of the server with each
//! response (that is where it can).

use anyhow::Result;
use data_encoding::HEXUPPER;

use super::{Plan, Site, version};
use crate::proxy::identities::san;

const PROGRAM: &str = "haproxy";

/// None where it is not installed.
pub(crate) async fn plan(site: &Site<'_>) -> Result<Option<Plan>> {
    let Some(version) = version(PROGRAM, "-v").await else {
        return Ok(None);
    };
    let command = |file: std::path::PathBuf| {
        let file = file.display().to_string();
        [PROGRAM, "-db", "-f", &file].map(str::to_owned).to_vec()
    };
    Ok(Some(Plan {
        name: "haproxy",
        outbound: command(site.write("haproxy-out.cfg", &outbound(site))?),
        inbound: command(site.write("haproxy-in.cfg", &inbound(site))?),
        speaks_h2: true,
        version,
    }))
}

const GLOBAL: &str = "global
  nbthread 1
  maxconn 4000
  ssl-default-bind-options ssl-min-ver TLSv1.3 no-tls-tickets
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
";

fn outbound(site: &Site<'_>) -> String {
    let ports = &site.ports;
    let server = HEXUPPER.encode(&san(&site.identities.orders));
    let tls = format!(
        "ssl verify required ca-file {} crt {}",
        site.files.roots.display(),
        site.files.checkout.display()
    );
    let is_orders = format!("unless {{ ssl_s_der,hex -m sub {server} }}");
    format!(
        "{GLOBAL}
listen http1
  bind {http1}
  http-response deny {is_orders}
  server orders {mesh_http1} {tls} alpn http/1.1
listen http2
  bind {http2} proto h2
  http-response deny {is_orders}
  server orders {mesh_http2} {tls} alpn h2
listen tcp
  mode tcp
  bind {tcp}
  tcp-response content reject {is_orders}
  server orders {mesh_tcp} {tls}
",
        http1 = ports.http1,
        http2 = ports.http2,
        tcp = ports.tcp,
        mesh_http1 = ports.mesh_http1,
        mesh_http2 = ports.mesh_http2,
        mesh_tcp = ports.mesh_tcp,
    )
}

fn inbound(site: &Site<'_>) -> String {
    let (ports, backend) = (&site.ports, site.backend);
    let caller = HEXUPPER.encode(&san(&site.identities.checkout));
    let tls = format!(
        "ssl crt {} ca-file {} verify required curves X25519",
        site.files.orders.display(),
        site.files.roots.display()
    );
    let is_checkout =
        format!("tcp-request session reject unless {{ ssl_c_der,hex -m sub {caller} }}");
    format!(
        "{GLOBAL}
listen http1
  bind {mesh_http1} {tls} alpn h2,http/1.1
  {is_checkout}
  server app {http1}
listen http2
  bind {mesh_http2} {tls} alpn h2
  {is_checkout}
  server app {http2} proto h2
listen tcp
  mode tcp
  bind {mesh_tcp} {tls}
  {is_checkout}
  server app {tcp}
",
        mesh_http1 = ports.mesh_http1,
        mesh_http2 = ports.mesh_http2,
        mesh_tcp = ports.mesh_tcp,
        http1 = backend.http1,
        http2 = backend.http2,
        tcp = backend.tcp,
    )
}
