//! Decoding of gates that come from outside: off the threads that serve everything, few at a time, and each once.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use suf_gate::{Gate, GateError};
use tokio::{sync::Semaphore, task};

/// Gates that are decoded at once. One takes a few milliseconds at most, so that more would only take cores from runs.
const AT_ONCE: usize = 2;

/// Decoded gates that are kept: those of the runs at work, mostly one. With their descriptions, some 2 MiB at most.
const KEPT: usize = 16;

/// Decodes the gates that callers describe.
pub struct GateDecoder {
    places: Arc<Semaphore>,
    /// Those decoded last, by their descriptions; the newest is the last.
    known: Mutex<VecDeque<(Bytes, Arc<Gate>)>>,
}

impl Default for GateDecoder {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), known: Mutex::default() }
    }
}

impl GateDecoder {
    /// The gate of a canonical description. It is decoded on a thread for such work, unless it was decoded shortly before.
    ///
    /// # Errors
    /// As [`Gate::decode`].
    pub async fn decode(&self, description: &Bytes) -> Result<Arc<Gate>, GateError> {
        self.decode_with(description, Gate::decode).await
    }

    async fn decode_with(
        &self,
        description: &Bytes,
        decode: impl FnOnce(&[u8]) -> Result<Gate, GateError> + Send + 'static,
    ) -> Result<Arc<Gate>, GateError> {
        if let Some(gate) = self.known(description) {
            return Ok(gate);
        }
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the places are never closed");
        // A copy: the caller's bytes may be a small part of a large buffer.
        let own = Bytes::copy_from_slice(description);
        let decoding = task::spawn_blocking(move || {
            let _until_decoded = place;
            decode(&own).map(|gate| (own, Arc::new(gate)))
        });
        let decoded = decoding.await.map_err(|error| GateError::Shape(format!("bug: decoding: {error}")))?;
        let (own, gate) = decoded?;
        let mut known = self.lock();
        known.push_back((own, Arc::clone(&gate)));
        if known.len() > KEPT {
            known.pop_front();
        }
        Ok(gate)
    }

    fn known(&self, description: &Bytes) -> Option<Arc<Gate>> {
        let mut known = self.lock();
        let at = known.iter().position(|(of, _)| of == description)?;
        let found = known.remove(at)?;
        let gate = Arc::clone(&found.1);
        known.push_back(found);
        Some(gate)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Bytes, Arc<Gate>)>> {
        // The list is whole whatever a panicking thread was doing.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for GateDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateDecoder").field("known", &self.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::catalog;

    use super::*;

    #[tokio::test]
    async fn a_gate_is_decoded_once_and_few_are_kept() {
        let decoder = GateDecoder::default();
        let gates: Vec<_> = catalog::builtin().collect();
        assert!(gates.len() > KEPT);
        let first = Bytes::from(gates[0].encode());
        let decoded = decoder.decode(&first).await.expect("a gate");
        assert_eq!(*decoded, gates[0]);
        assert!(Arc::ptr_eq(&decoded, &decoder.decode(&first).await.expect("a gate")), "decoded again");
        for gate in &gates {
            decoder.decode(&gate.encode().into()).await.expect("a gate");
        }
        assert_eq!(decoder.lock().len(), KEPT);
        assert!(!Arc::ptr_eq(&decoded, &decoder.decode(&first).await.expect("a gate")), "kept for ever");
        assert!(decoder.decode(&first.slice(..9)).await.is_err());
    }
    #[tokio::test]
    async fn a_panic_in_decoding_costs_its_caller_alone() {
        let decoder = GateDecoder::default();
        let description = Bytes::from(catalog::builtin().next().expect("one is built in").encode());
        // More often than there are places, so that each gives its own back.
        for _ in 0..=AT_ONCE {
            let decoded = decoder.decode_with(&description, |_| panic!("as the test wants it")).await;
            let error = decoded.expect_err("nothing was decoded").to_string();
            assert!(error.contains("bug: decoding"), "{error}");
        }
        decoder.decode(&description).await.expect("a gate");
        // While the list of those that are known is held.
        let held = std::thread::scope(|scope| {
            let holder = || {
                let _held = decoder.lock();
                panic!("as the test wants it");
            };
            scope.spawn(holder).join()
        });
        held.expect_err("it panics");
        decoder.decode(&description).await.expect("a gate");
    }
}
