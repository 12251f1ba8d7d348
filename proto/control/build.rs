//! Compiles v1/control.proto in pure Rust (protox), so that no protoc is needed. Keeps the descriptor set
//! for gRPC reflection, and for the test that every method has a row in the authority table.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=v1/control.proto");
    let descriptors = protox::compile(["v1/control.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("control.fds"), descriptors.encode_to_vec())?;
    // `bytes` fields as `Bytes`: shares are sliced out of the receive buffer, not copied.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
