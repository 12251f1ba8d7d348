//! Decoding of programs that come from outside: off the threads that serve everything, few at a time, and each once.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use suf_gate::{Gate, GateError, Program, ProgramError, WeightStore};
use suf_model::bert::{MOST_TOKENS, row_sums};
use tokio::{sync::Semaphore, task};

/// Programs that are decoded at once. A gate takes up to a millisecond, so that more would only take cores from runs.
const AT_ONCE: usize = 2;

/// Decoded programs that are kept: those of the runs at work, mostly one. With their descriptions, some 20 MiB at most.
const KEPT: usize = 16;

/// How a caller describes a program, by canonical encodings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// The program of one gate.
    Gate {
        /// See [`Gate::encode`].
        gate: Bytes,
        /// Elements of the tensor.
        elems: u64,
    },
    /// See [`Program::encoded`].
    Program(Bytes),
}

impl Description {
    fn decode(&self, weights: &WeightStore) -> Result<Program, ProgramError> {
        match self {
            Self::Gate { gate, elems } => Program::of_gate(Arc::new(Gate::decode(gate)?), *elems),
            Self::Program(program) => Program::decode(program, weights),
        }
    }

    /// A copy with memory of its own: the caller's bytes may be a small part of a large buffer.
    fn detached(&self) -> Self {
        match self {
            Self::Gate { gate, elems } => Self::Gate { gate: Bytes::copy_from_slice(gate), elems: *elems },
            Self::Program(program) => Self::Program(Bytes::copy_from_slice(program)),
        }
    }
}

/// Decodes the programs that callers describe.
pub struct ProgramDecoder {
    /// Those that programs may name.
    weights: Arc<WeightStore>,
    places: Arc<Semaphore>,
    /// Those decoded last, by their descriptions; the newest is the last.
    known: Mutex<VecDeque<(Description, Arc<Program>)>>,
}

impl ProgramDecoder {
    /// A decoder of programs over `weights`, and over what sums rows in programs whose weights are a load's.
    ///
    /// # Panics
    /// Never: the sums are small.
    #[must_use]
    pub fn new(weights: &WeightStore) -> Self {
        let mut weights = weights.clone();
        row_sums(MOST_TOKENS).expect("they are small").into_iter().for_each(|sum| weights.add(sum));
        let weights = Arc::new(weights);
        Self { weights, places: Arc::new(Semaphore::new(AT_ONCE)), known: Mutex::default() }
    }

    /// The program that is described. It is decoded on a thread for such work, unless it was decoded shortly before.
    ///
    /// # Errors
    /// As [`Program::decode`] and [`Program::of_gate`].
    pub async fn decode(&self, description: &Description) -> Result<Arc<Program>, ProgramError> {
        self.decode_with(description, Description::decode).await
    }

    async fn decode_with(
        &self,
        description: &Description,
        decode: impl FnOnce(&Description, &WeightStore) -> Result<Program, ProgramError> + Send + 'static,
    ) -> Result<Arc<Program>, ProgramError> {
        if let Some(program) = self.known(description) {
            return Ok(program);
        }
        let place = Arc::clone(&self.places).acquire_owned().await.expect("the places are never closed");
        let (own, weights) = (description.detached(), Arc::clone(&self.weights));
        let decoding = task::spawn_blocking(move || {
            let _until_decoded = place;
            decode(&own, &weights).map(|program| (own, Arc::new(program)))
        });
        let panicked = |error| GateError::Shape(format!("bug: decoding: {error}"));
        let (own, program) = decoding.await.map_err(panicked)??;
        let mut known = self.lock();
        known.push_back((own, Arc::clone(&program)));
        if known.len() > KEPT {
            known.pop_front();
        }
        Ok(program)
    }

    fn known(&self, description: &Description) -> Option<Arc<Program>> {
        let mut known = self.lock();
        let at = known.iter().position(|(of, _)| of == description)?;
        let found = known.remove(at)?;
        let program = Arc::clone(&found.1);
        known.push_back(found);
        Some(program)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Description, Arc<Program>)>> {
        // The list is whole whatever a panicking thread was doing.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ProgramDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramDecoder").field("known", &self.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::catalog;

    use super::*;

    #[tokio::test]
    async fn a_program_is_decoded_once_and_few_are_kept() {
        let decoder = ProgramDecoder::new(&WeightStore::default());
        let gates: Vec<_> = catalog::builtin().map(Arc::new).collect();
        assert!(gates.len() > KEPT);
        let described = |gate: &Gate| Description::Gate { gate: gate.encode().into(), elems: 9 };
        let first = described(&gates[0]);
        let decoded = decoder.decode(&first).await.expect("a gate");
        let program = Program::of_gate(Arc::clone(&gates[0]), 9).expect("of a size");
        assert_eq!(*decoded, program);
        assert!(Arc::ptr_eq(&decoded, &decoder.decode(&first).await.expect("a gate")), "decoded again");
        let whole = Description::Program(program.encoded().to_vec().into());
        assert_eq!(*decoder.decode(&whole).await.expect("a program"), program);
        for gate in &gates {
            decoder.decode(&described(gate)).await.expect("a gate");
        }
        assert_eq!(decoder.lock().len(), KEPT);
        assert!(!Arc::ptr_eq(&decoded, &decoder.decode(&first).await.expect("a gate")), "kept for ever");

        let cut = |bytes: &[u8]| Bytes::copy_from_slice(&bytes[..9]);
        for damaged in [
            Description::Gate { gate: cut(&gates[0].encode()), elems: 9 },
            Description::Gate { gate: gates[0].encode().into(), elems: 0 },
            Description::Program(cut(program.encoded())),
        ] {
            assert!(decoder.decode(&damaged).await.is_err(), "{damaged:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_in_decoding_costs_its_caller_alone() {
        let decoder = ProgramDecoder::new(&WeightStore::default());
        let gate = catalog::builtin().next().expect("one is built in").encode().into();
        let description = Description::Gate { gate, elems: 9 };
        // More often than there are places, so that each gives its own back.
        for _ in 0..=AT_ONCE {
            let decoded = decoder.decode_with(&description, |_, _| panic!("as the test wants it")).await;
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
