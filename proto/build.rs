//! Compiles the `.proto` files without a system `protoc`.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 4] = [
    "spiffe/workload.proto",
    "countersign/mesh/v1/mesh.proto",
    "countersign/agent/v1/agent.proto",
    "opentelemetry/trace_service.proto",
];

/// Messages that carry a secret; `src/secrets.rs` prints them without it.
const SECRET: [&str; 4] = [
    ".X509SVID",
    ".countersign.agent.v1.JoinTokenEvidence",
    ".countersign.agent.v1.JwtEvidence",
    ".countersign.mesh.v1.Credentials",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let descriptors = protox::compile(FILES, [root])?;
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .skip_debug(SECRET)
        .codec_path("crate::codec::SlimCodec")
        .compile_fds(descriptors)?;
    Ok(())
}
