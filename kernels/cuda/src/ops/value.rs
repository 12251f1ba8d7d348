//! Values in the GPU's memory.

use std::{any::Any, sync::Arc};

use suf_gate::{BackendError, Value};

use super::lane::Lane;
use crate::{
    backend::Shared,
    driver::Mark,
    memory::{DeviceBlock, Ending},
};

/// A tile of a wire in the GPU's memory, or room for one: a word of 64 bits for each element.
pub(crate) struct DeviceValue {
    shared: Arc<Shared>,
    // Taken by drop alone.
    block: Option<DeviceBlock>,
    elems: usize,
    /// When it is whole, if that was not waited for.
    ready: Option<Mark>,
    /// Whether it is a share: opened values are no secret.
    is_secret: bool,
}

impl DeviceValue {
    /// Room for `elems` elements. It is a value once a stream has written them and was waited for, or [`DeviceValue::made`].
    pub(crate) fn room(shared: &Arc<Shared>, elems: usize, is_secret: bool) -> Result<Self, BackendError> {
        let block = shared.memory.block(8 * elems)?;
        Ok(Self { shared: Arc::clone(shared), block: Some(block), elems, ready: None, is_secret })
    }

    /// The value that is whole when `ready` is past.
    pub(crate) fn made(mut self, ready: Mark) -> Arc<dyn Value> {
        self.ready = Some(ready);
        Arc::new(self)
    }

    /// When it is whole, if that was not waited for.
    pub(crate) fn ready(&self) -> Option<&Mark> {
        self.ready.as_ref()
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
        let from = lane.take(&self)?;
        // SAFETY: the value is whole by then, and has as many words.
        let copy = unsafe { lane.download(from, self.elems) };
        lane.wait()?;
        Ok(copy?.bytes().as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

impl Drop for DeviceValue {
    fn drop(&mut self) {
        let Some(block) = self.block.take() else { return };
        let memory = &self.shared.memory;
        if self.shared.device.bind().is_err() {
            return;
        }
        // Whoever reads it holds it.
        let is_whole = self.ready.as_ref().is_none_or(Mark::is_past);
        if let Some(ready) = self.ready.take_if(|_| is_whole) {
            memory.give_back_mark(ready);
        }
        if is_whole && !self.is_secret {
            memory.give_back([block], None);
            return;
        }
        let Ok(stream) = memory.stream() else { return };
        let waits = self.ready.as_ref().map_or(Ok(()), |ready| stream.after(ready));
        // SAFETY: the bytes are this value's, and what writes them is done by then.
        let wiped = waits.and_then(|()| unsafe { stream.zero(block.address(), 8 * self.elems) });
        if wiped.is_ok() {
            memory.end(Ending { stream, blocks: vec![block], pinned: Vec::new(), held: Vec::new() });
        }
    }
}
