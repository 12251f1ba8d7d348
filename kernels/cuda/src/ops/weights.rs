//! Public matrices of weights in the GPU's memory.

use suf_gate::{BackendError, ops::Weights};

use crate::{backend::Shared, memory::DeviceBlock};

/// Weights and biases, as [`Weights`] has them.
pub(crate) struct DeviceWeights {
    values: DeviceBlock,
    bias: Option<DeviceBlock>,
}

impl DeviceWeights {
    /// A copy of `weights`.
    pub(crate) fn new(shared: &Shared, weights: &Weights) -> Result<Self, BackendError> {
        let values = weights.values().iter().flat_map(|value| value.to_le_bytes()).collect();
        let bias: Vec<u8> = weights.bias().iter().flat_map(|bias| bias.to_le_bytes()).collect();
        let bias = (!bias.is_empty()).then(|| copied(shared, bias)).transpose()?;
        Ok(Self { values: copied(shared, values)?, bias })
    }

    /// Where the first weight stands.
    pub(crate) fn values(&self) -> u64 {
        self.values.address()
    }

    /// Where the first bias stands; 0 if there is none.
    pub(crate) fn bias(&self) -> u64 {
        self.bias.as_ref().map_or(0, DeviceBlock::address)
    }
}

fn copied(shared: &Shared, bytes: Vec<u8>) -> Result<DeviceBlock, BackendError> {
    let (block, stream) = (shared.memory.block(bytes.len())?, shared.memory.stream()?);
    // SAFETY: the block has room, and the bytes stay until the wait.
    let queued = unsafe { stream.upload(&bytes, block.address()) };
    stream.wait()?;
    queued?;
    shared.memory.give_back([], Some(stream));
    Ok(block)
}
