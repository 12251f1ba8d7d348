//! Loaded models: matrices of private weights that many runs use. The owner shares each matrix W with both parties, which open
//! `W_hat = W + r_W` once and keep it. That is a run of a *load program*, of inputs and [`crate::ops::Keep`]. The mask of
//! a matrix is the mask of its input there: each party expands its share from its seed of the load's batch. The dealer keeps
//! both seeds. A batch serves for one load and never again, so a mask never meets another matrix.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{NodeId, Part, Party, Program, Seed, prg::Domain};

/// A load, as party and dealer both know it.
#[derive(Clone, Debug)]
pub struct LoadId {
    /// The load program.
    pub program: Arc<Program>,
    /// Its batch.
    pub batch: [u8; 16],
}

/// What a party keeps of a load.
pub struct Kept {
    load: LoadId,
    seed: Seed,
    matrices: BTreeMap<NodeId, Vec<u64>>,
    /// What a backend made of them.
    on_device: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// What the dealer keeps of a load.
pub struct Dealt {
    load: LoadId,
    seeds: [Seed; 2],
}

impl LoadId {
    /// The domain of the mask of a tile of a matrix: `part` is a tile of an input of the load program.
    #[must_use]
    pub fn domain(&self, part: Part) -> Domain<'_> {
        Domain { batch: &self.batch, program: self.program.digest(), part }
    }
}

impl Kept {
    /// The matrices of `load` that a party opened under `seed`: the tiles that its nodes `keep` made.
    ///
    /// # Panics
    /// When a tile is missing.
    #[must_use]
    pub fn new(load: LoadId, seed: Seed, kept: BTreeMap<NodeId, Vec<Vec<u64>>>) -> Self {
        let program = &load.program;
        let matrices: BTreeMap<_, _> = kept
            .into_iter()
            .map(|(keep, tiles)| {
                let input = program.node(keep).inputs()[0];
                let elems = program.node(input).shape().elems() as usize;
                let mut matrix = Vec::with_capacity(elems);
                tiles.into_iter().for_each(|tile| matrix.extend(tile));
                assert_eq!(matrix.len(), elems, "all tiles of {input}");
                (input, matrix)
            })
            .collect();
        Self { load, seed, matrices, on_device: Mutex::default() }
    }

    /// Which load.
    #[must_use]
    pub fn load(&self) -> &LoadId {
        &self.load
    }

    /// This party's seed of the load's batch.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// What a backend keeps of the matrices on its device, as long as they are here. `make` is called if there is nothing yet, or
    /// something that another backend made.
    ///
    /// # Errors
    /// What `make` says.
    pub fn on_device<T: Any + Send + Sync, E>(
        &self,
        is_ours: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        // A whole value or none, whatever a panicking thread was doing.
        let mut kept = self.on_device.lock().unwrap_or_else(PoisonError::into_inner);
        let made = kept.clone().and_then(|made| made.downcast::<T>().ok()).filter(|made| is_ours(made));
        if let Some(made) = made {
            return Ok(made);
        }
        let made = Arc::new(make()?);
        *kept = Some(Arc::clone(&made) as _);
        Ok(made)
    }

    /// `W_hat` of the matrix that the node `input` of the load program took in, row after row; none if there is no such matrix.
    #[must_use]
    pub fn matrix(&self, input: NodeId) -> Option<&[u64]> {
        self.matrices.get(&input).map(Vec::as_slice)
    }
}

impl Dealt {
    /// The masks of `load`, of which both parties have their shares from `seeds`.
    #[must_use]
    pub fn new(load: LoadId, seeds: [Seed; 2]) -> Self {
        Self { load, seeds }
    }

    /// Which load.
    #[must_use]
    pub fn load(&self) -> &LoadId {
        &self.load
    }

    /// The seed of `party`.
    #[must_use]
    pub fn seed(&self, party: Party) -> &Seed {
        &self.seeds[party.index()]
    }
}

/// Never a seed nor a matrix.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} matrices)", self.matrices.len())
    }
}

/// Never a seed.
impl fmt::Debug for Dealt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dealt({} matrices)", self.load.program.results().count())
    }
}
