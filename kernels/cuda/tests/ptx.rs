//! A GPU without NVRTC: what it does not take is an error that says why. What it takes is compared in `tests/dual.rs`.

use std::sync::Arc;

use suf_cuda::CudaBackend;
use suf_gate::{
    Backend, BackendError, Gate, NodeId, Part, Program, Protocol, Seed, Shape, TwoParties, catalog,
    gatefile::GateFile,
};
use suf_skip::{Need, skip};

/// GELU with a window of its own.
fn gate() -> Gate {
    let file = GateFile::builtin("gelu").expect("a built-in gate");
    let gate = catalog::gate(&file, Protocol::Dpf, None).expect("in the file");
    let Shape::Dpf(dpf) = gate.shape() else { panic!("not a dpf gate") };
    let mut curve = dpf.curve().clone();
    curve.residual[0] += 1;
    let shape = suf_gate::dpf::Dpf::new(curve, file.dpf_domain_bits).expect("a shape");
    Gate::new("gelu", Shape::Dpf(shape)).expect("a gate")
}

#[test]
fn a_gate_that_is_not_built_in_needs_the_compiler() {
    let gpu = match CudaBackend::from_ptx(0) {
        Ok(gpu) => gpu,
        Err(reason) => return skip(Need::Gpu, format!("no GPU was asked: {reason}")),
    };
    assert!(gpu.info().device.ends_with("embedded PTX"), "{}", gpu.info().device);
    let program = Program::of_gate(Arc::new(gate()), 9).expect("a program");
    let batch = TwoParties::new(Arc::new(program), [7; 16], [1, 2, 3].map(|byte| Seed::new([byte; 32])));
    let error = batch.deal(&gpu, Part::new(NodeId(1), 0)).expect_err("no kernels of it");
    assert!(matches!(&error, BackendError::Unavailable(text) if text.contains("not built in")), "{error}");
}
