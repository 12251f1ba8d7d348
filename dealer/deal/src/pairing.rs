//! Pairing of requests.

use std::{collections::HashMap, sync::Arc};

use suf_gate::{Program, ProgramError};
use suf_wire::{BatchId, Digest, KeyRequest, Party};

/// Most batches that wait for their second request. Each holds some 100 bytes here, and the stream on which its party waits.
/// A party that asks for more without its peer following is refused.
const MAX_WAITING: usize = 1024;

/// Requests that wait for the other party's.
#[derive(Debug, Default)]
pub struct Pairing {
    waiting: HashMap<BatchId, Waiting>,
}

/// What the first of two parties asked for. The second has to describe the same program, so that its own need not be kept.
#[derive(Debug)]
struct Waiting {
    party: Party,
    digest: Digest,
    load_batch: Option<BatchId>,
}

/// A request whose program was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    batch: BatchId,
    party: Party,
    program: Arc<Program>,
    load_batch: Option<BatchId>,
}

impl Order {
    /// The order of `request`. `program` is what its description decodes to: whoever has the request decodes it, where that
    /// holds nobody up.
    ///
    /// # Errors
    /// When the description is not a program's, or not that of the digest.
    pub fn new(request: &KeyRequest, program: Result<Arc<Program>, ProgramError>) -> Result<Self, Refusal> {
        let party = request.party;
        let program = program.map_err(|error| Refusal::Program { party, error })?;
        let described = Digest(*program.digest());
        if described != request.digest {
            return Err(Refusal::Digest { party, named: request.digest, described });
        }
        Ok(Self { batch: request.batch, party, program, load_batch: request.load_batch })
    }
}

/// Where a batch stands after a request.
#[derive(Debug, PartialEq)]
pub enum Standing {
    /// The other party has not asked yet.
    Waiting,
    /// Both asked for the same.
    Agreed {
        /// The program.
        program: Arc<Program>,
        /// The batch of the load whose matrices it takes.
        load_batch: Option<BatchId>,
    },
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The program's description is not one.
    #[error("{party} asks for a program that cannot be read: {error}")]
    Program {
        /// The party that asked.
        party: Party,
        /// What is wrong with it.
        error: ProgramError,
    },
    /// The digest is not the description's.
    #[error("{party} names program {named}, but describes {described}")]
    Digest {
        /// The party that asked.
        party: Party,
        /// The digest in the request.
        named: Digest,
        /// The digest of the description.
        described: Digest,
    },
    /// The two parties want different things.
    #[error(
        "the parties disagree on batch {batch}: {first} asks for keys of program {first_program}, \
         {second} for keys of {second_program}"
    )]
    Disagreement {
        /// The batch.
        batch: BatchId,
        /// The party that asked first.
        first: Party,
        /// What it asked for.
        first_program: Digest,
        /// The party that asked second.
        second: Party,
        /// What it asked for.
        second_program: Digest,
    },
    /// The two parties take matrices of different loads.
    #[error(
        "the parties disagree on batch {batch}: each takes the matrices of another load, so the model was loaded at them at \
         different times; load it again"
    )]
    OtherLoad {
        /// The batch.
        batch: BatchId,
    },
    /// The same party asks twice.
    #[error("{party} has asked for batch {batch} already")]
    Twice {
        /// The party that asked.
        party: Party,
        /// The batch.
        batch: BatchId,
    },
    /// Too many batches wait for their second request.
    #[error("{MAX_WAITING} batches wait for the other party's request; none more is taken")]
    Full,
}

impl Pairing {
    /// Takes an order. After an error both parties' orders for the batch are void.
    ///
    /// # Errors
    /// When the order is repeated, or at odds with the other party's.
    pub fn request(&mut self, order: Order) -> Result<Standing, Refusal> {
        let Order { batch, party, program, load_batch } = order;
        let digest = Digest(*program.digest());
        let Some(first) = self.waiting.remove(&batch) else {
            if self.waiting.len() == MAX_WAITING {
                return Err(Refusal::Full);
            }
            self.waiting.insert(batch, Waiting { party, digest, load_batch });
            return Ok(Standing::Waiting);
        };
        if first.party == party {
            return Err(Refusal::Twice { party, batch });
        }
        if first.digest != digest {
            return Err(Refusal::Disagreement {
                batch,
                first: first.party,
                first_program: first.digest,
                second: party,
                second_program: digest,
            });
        }
        if first.load_batch != load_batch {
            return Err(Refusal::OtherLoad { batch });
        }
        Ok(Standing::Agreed { program, load_batch })
    }

    /// Drops a request whose party left or whose peer never asked. Whether there was one.
    pub fn withdraw(&mut self, batch: BatchId) -> bool {
        self.waiting.remove(&batch).is_some()
    }
}

#[cfg(test)]
mod tests {
    use suf_gate::{Gate, Shape, activation::Builtin, suf_lut::SufLut};

    use super::*;

    fn request(party: Party, elems: u64) -> KeyRequest {
        let table = SufLut::of(&Builtin::Gelu.into(), 8).expect("8 is in range");
        let gate = Gate::new("gelu", Shape::SufLut(table)).expect("a name");
        let program = Program::of_gate(Arc::new(gate), elems).expect("few elements");
        KeyRequest {
            batch: BatchId([7; 16]),
            digest: Digest(*program.digest()),
            party,
            load_batch: None,
            program: program.encoded().to_vec().into(),
        }
    }

    fn read(request: KeyRequest) -> Result<Order, Refusal> {
        Order::new(
            &request,
            Program::decode(&request.program, &suf_gate::WeightStore::default()).map(Arc::new),
        )
    }

    fn order(party: Party, elems: u64) -> Order {
        read(request(party, elems)).expect("a program and its digest")
    }

    #[test]
    fn both_must_ask_for_the_same() {
        let mut pairing = Pairing::default();
        assert_eq!(pairing.request(order(Party::P0, 9)), Ok(Standing::Waiting));
        let agreed = pairing.request(order(Party::P1, 9));
        assert!(
            matches!(&agreed, Ok(Standing::Agreed { program, .. }) if program.parts().count() == 3),
            "{agreed:?}"
        );

        assert_eq!(pairing.request(order(Party::P1, 9)), Ok(Standing::Waiting));
        let error = pairing.request(order(Party::P0, 10)).expect_err("9 is not 10");
        assert!(
            matches!(error, Refusal::Disagreement { first: Party::P1, second: Party::P0, .. }),
            "{error}"
        );
        assert!(!pairing.withdraw(BatchId([7; 16])), "a disagreement voids both requests");
    }

    #[test]
    fn both_must_take_the_matrices_of_one_load() {
        let on = |party, batch: Option<u8>| {
            let load_batch = batch.map(|batch| BatchId([batch; 16]));
            read(KeyRequest { load_batch, ..request(party, 9) }).expect("a program and its digest")
        };
        for (first, second) in [(None, Some(1)), (Some(1), None), (Some(1), Some(2))] {
            let mut pairing = Pairing::default();
            assert_eq!(pairing.request(on(Party::P0, first)), Ok(Standing::Waiting));
            let error = pairing.request(on(Party::P1, second)).expect_err("two loads");
            assert!(error.to_string().contains("load it again"), "{error}");
        }
        let mut pairing = Pairing::default();
        assert_eq!(pairing.request(on(Party::P0, Some(1))), Ok(Standing::Waiting));
        assert!(matches!(
            pairing.request(on(Party::P1, Some(1))),
            Ok(Standing::Agreed { load_batch: Some(_), .. })
        ));
    }

    #[test]
    fn a_party_that_asks_twice_is_refused() {
        let mut pairing = Pairing::default();
        assert_eq!(pairing.request(order(Party::P0, 9)), Ok(Standing::Waiting));
        assert!(matches!(pairing.request(order(Party::P0, 9)), Err(Refusal::Twice { .. })));
    }

    #[test]
    fn a_wrong_digest_is_named() {
        let wrong = KeyRequest { digest: Digest([0; 32]), ..request(Party::P0, 9) };
        assert!(matches!(read(wrong), Err(Refusal::Digest { party: Party::P0, .. })));
        let cut = KeyRequest { program: request(Party::P1, 9).program.slice(..9), ..request(Party::P1, 9) };
        assert!(matches!(read(cut), Err(Refusal::Program { party: Party::P1, .. })));
    }

    #[test]
    fn waiting_requests_are_bounded() {
        let mut pairing = Pairing::default();
        for i in 0..MAX_WAITING {
            let batch = BatchId((i as u128).to_le_bytes());
            assert_eq!(pairing.request(Order { batch, ..order(Party::P0, 1) }), Ok(Standing::Waiting));
        }
        let batch = BatchId([0xff; 16]);
        assert_eq!(pairing.request(Order { batch, ..order(Party::P0, 1) }), Err(Refusal::Full));
    }
}
