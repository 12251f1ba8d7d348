//! Masks that a batch's dealer derived lately. Several nodes need the mask of one wire. A product with a matrix of weights stands
//! behind it, which takes longer than all else that they do.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
};

use zeroize::Zeroizing;

use crate::Part;

/// Bytes of masks that are kept: those of a layer of a transformer with 512 tokens of 1024 elements, which are 4 MiB each.
const KEPT_BYTES: usize = 64 << 20;

/// Masks of one batch: the latest ones.
#[derive(Default)]
pub struct MaskCache(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    masks: HashMap<Part, Zeroizing<Vec<u64>>>,
    /// In the order in which they came.
    order: VecDeque<Part>,
    bytes: usize,
}

impl MaskCache {
    /// The mask of what `part` makes, if it is kept.
    #[must_use]
    pub fn get(&self, part: Part) -> Option<Vec<u64>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.masks.get(&part).map(|mask| mask.to_vec())
    }

    /// Keeps the mask of what `part` makes, and drops the oldest ones for it.
    pub fn keep(&self, part: Part, mask: &[u64]) {
        let copy = Zeroizing::new(mask.to_vec());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.masks.insert(part, copy).is_some() {
            // Two threads derived it at once.
            return;
        }
        kept.order.push_back(part);
        kept.bytes += size_of_val(mask);
        while kept.bytes > KEPT_BYTES {
            let Some(oldest) = kept.order.pop_front() else { break };
            let dropped = kept.masks.remove(&oldest).map_or(0, |mask| size_of_val(&mask[..]));
            kept.bytes -= dropped;
        }
    }
}

impl fmt::Debug for MaskCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "MaskCache({} masks)", kept.masks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    #[test]
    fn the_latest_masks_are_kept_and_none_is_printed() {
        let cache = MaskCache::default();
        let (count, elems) = (5, KEPT_BYTES / 8 / 4);
        for tile in 0..count {
            cache.keep(Part::new(NodeId(1), tile), &vec![u64::from(tile) + 77; elems]);
            // Again: it counts once.
            cache.keep(Part::new(NodeId(1), tile), &vec![u64::from(tile) + 77; elems]);
        }
        let found = (0..count).map(|tile| cache.get(Part::new(NodeId(1), tile)).map(|mask| mask[0]));
        assert!(found.eq([None, Some(78), Some(79), Some(80), Some(81)]));
        assert_eq!(cache.get(Part::new(NodeId(2), 4)), None);
        assert_eq!(format!("{cache:?}"), "MaskCache(4 masks)");
    }
}
