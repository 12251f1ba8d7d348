//! Values in the GPU's memory.

use std::{any::Any, sync::Arc};

use suf_gate::{BackendError, Value};

use super::lane::Lane;
use crate::{backend::Shared, memory::DeviceBlock};

/// A tile of a wire in the GPU's memory, or room for one: a word of 64 bits for each element.
pub(crate) struct DeviceValue {
    shared: Arc<Shared>,
    // Taken by drop alone.
    block: Option<DeviceBlock>,
    elems: usize,
    /// Whether it is a share: opened values are no secret.
    is_secret: bool,
}

impl DeviceValue {
    /// Room for `elems` elements. It is a value once a stream has written them and was waited for.
    pub(crate) fn room(shared: &Arc<Shared>, elems: usize, is_secret: bool) -> Result<Self, BackendError> {
        let block = shared.memory.block(8 * elems)?;
        Ok(Self { shared: Arc::clone(shared), block: Some(block), elems, is_secret })
    }

    /// `value`, if it is in the memory of this GPU.
    pub(crate) fn of(value: &Arc<dyn Value>, shared: &Arc<Shared>) -> Option<Arc<Self>> {
        let value: Arc<dyn Any + Send + Sync> = Arc::clone(value) as _;
        value.downcast().ok().filter(|value: &Arc<Self>| Arc::ptr_eq(&value.shared, shared))
    }

    /// Where its first element stands.
    pub(crate) fn address(&self) -> u64 {
        self.block.as_ref().expect("the block is there until drop").address()
    }
}

impl Value for DeviceValue {
    fn elems(&self) -> usize {
        self.elems
    }

    fn view(&self) -> Option<&[u64]> {
        None
    }

    fn words(self: Arc<Self>) -> Result<Vec<u64>, BackendError> {
        let mut lane = Lane::new(&self.shared)?;
        // SAFETY: the value is whole, and has as many words.
        let copy = unsafe { lane.download(self.address(), self.elems) };
        lane.wait()?;
        Ok(copy?.bytes().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

impl Drop for DeviceValue {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        let memory = &self.shared.memory;
        if !self.is_secret {
            memory.give_back([block], None);
            return;
        }
        let Ok(stream) = self.shared.device.bind().and_then(|()| memory.stream()) else { return };
        // SAFETY: the bytes are this value's, and nothing is queued that uses them.
        let wiped = unsafe { stream.zero(block.address(), 8 * self.elems) }.and_then(|()| stream.wait());
        if wiped.is_ok() {
            memory.give_back([block], Some(stream));
        }
    }
}
