//! nginx, in one process each. It cannot look into a certificate: of the caller it matches the URI
//! SAN in the PEM, of the server only the DNS name, which our CA puts there too.

use anyhow::Result;

use super::pem_pattern::pem_pattern;
use super::{Plan, Site, version};
use crate::proxy::identities::san;

const PROGRAM: &str = "nginx";

/// None where it is not installed.
pub(crate) async fn plan(site: &Site<'_>) -> Result<Option<Plan>> {
    let Some(version) = version(PROGRAM, "-v").await else {
        return Ok(None);
    };
    let directory = site.files.directory.display().to_string();
    let command = |file: std::path::PathBuf| {
        let file = file.display().to_string();
        [PROGRAM, "-p", &directory, "-e", "stderr", "-c", &file]
            .map(str::to_owned)
            .to_vec()
    };
    Ok(Some(Plan {
        name: "nginx",
        outbound: command(site.write("nginx-out.conf", &outbound(site))?),
        inbound: command(site.write("nginx-in.conf", &inbound(site))?),
        speaks_h2: false,
        version,
    }))
}

fn global(side: &str) -> String {
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid nginx-{side}.pid;
error_log stderr crit;
events {{ worker_connections 8000; }}
"
    )
}

const HTTP: &str = "  access_log off;
  tcp_nodelay on;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  client_max_body_size 0;
  proxy_request_buffering off;
  proxy_max_temp_file_size 0;
  proxy_http_version 1.1;
  proxy_set_header Connection \"\";
  proxy_set_header Host $host;
";

fn outbound(site: &Site<'_>) -> String {
    let ports = &site.ports;
    let own = site.files.checkout.display();
    let tls = format!(
        "    proxy_ssl_certificate {own};
    proxy_ssl_certificate_key {own};
    proxy_ssl_trusted_certificate {roots};
    proxy_ssl_verify on;
    proxy_ssl_verify_depth 4;
    proxy_ssl_name {name};
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    proxy_ssl_conf_command Groups X25519;
",
        roots = site.files.roots.display(),
        name = Site::AUTHORITY,
    );
    format!(
        "{global}http {{
{HTTP}{temporary}  upstream orders {{
    server {mesh_http1} max_fails=0;
    keepalive 512;
    keepalive_requests 1000000000;
  }}
  server {{
    listen {http1};
    location / {{ proxy_pass https://orders; }}
{tls}  }}
}}
stream {{
  server {{
    listen {tcp};
    proxy_pass {mesh_tcp};
    proxy_ssl on;
{tls}  }}
}}
",
        global = global("out"),
        temporary = temporary("out"),
        mesh_http1 = ports.mesh_http1,
        http1 = ports.http1,
        tcp = ports.tcp,
        mesh_tcp = ports.mesh_tcp,
    )
}

fn inbound(site: &Site<'_>) -> String {
    let (ports, backend) = (&site.ports, site.backend);
    let caller = pem_pattern(&san(&site.identities.checkout));
    let own = site.files.orders.display();
    let tls = format!(
        "    ssl_certificate {own};
    ssl_certificate_key {own};
    ssl_client_certificate {roots};
    ssl_verify_client on;
    ssl_verify_depth 4;
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    ssl_ecdh_curve X25519;
    ssl_session_tickets off;
    ssl_session_cache off;
",
        roots = site.files.roots.display(),
    );
    format!(
        "{global}http {{
{HTTP}{temporary}  map $ssl_client_raw_cert $is_checkout {{ default 0; \"~{caller}\" 1; }}
  upstream app {{ server {http1} max_fails=0; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen {mesh_http1} ssl;
{tls}    if ($is_checkout = 0) {{ return 403; }}
    location / {{ proxy_pass http://app; }}
  }}
}}
stream {{
  map $ssl_client_raw_cert $target {{ default unix:/nobody; \"~{caller}\" {tcp}; }}
  server {{
    listen {mesh_tcp} ssl;
{tls}    proxy_pass $target;
  }}
}}
",
        global = global("in"),
        temporary = temporary("in"),
        http1 = backend.http1,
        mesh_http1 = ports.mesh_http1,
        mesh_tcp = ports.mesh_tcp,
        tcp = backend.tcp,
    )
}

fn temporary(side: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds
        .map(|kind| format!("  {kind}_temp_path nginx-{side}-{kind};\n"))
        .concat()
}
