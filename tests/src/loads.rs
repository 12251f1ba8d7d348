//! Small models with private weights: their load programs, a program that takes the matrices, and what must come out.

use std::sync::Arc;

use rand::{Rng, SeedableRng, rngs::StdRng};
use suf_cli::client::os_random;
use suf_control::v1::{ListLoadsRequest, Load, LoadRef, LoadTerms, Run, RunState, StartRunRequest};
use suf_gate::{
    Form, NodeId, Program, Ring, TensorShape,
    ops::{
        Input, Keep, Op, Output, Pads,
        private::{Chosen, Factor, LOADED, Left, Matrix, Private, Term},
    },
};
use suf_server::ownership::Owner;
use suf_wire::{Party, RunId};
use tonic::Status;

use crate::{
    caller::{Caller, by_id},
    inputs::{share_in, unite_in},
    processes::Hosts,
};

/// Fractional bits of the wire and of the matrix.
const FRAC: [u8; 2] = [20, 10];

/// A model of one product and a summand: `Y = X W + b`.
#[derive(Clone, Debug)]
pub struct Sum {
    /// With which it is loaded: W and b.
    pub load: Arc<Program>,
    /// Which takes the matrices, on some rows.
    pub program: Arc<Program>,
    rows: usize,
    inner: usize,
    made: usize,
}

impl Sum {
    /// W has `inner` rows and `made` columns, X has `rows` rows.
    ///
    /// # Panics
    /// When there is no such program.
    #[must_use]
    pub fn new(rows: u32, inner: u32, made: u32) -> Self {
        let [wire, weight] = FRAC;
        let shape = |rows, cols| TensorShape::new(rows, cols).expect("a tensor");
        let input = |shape, frac| (Op::Input(Input::new(shape, LOADED, frac, Form::Masked)), vec![]);
        let matrices = [(shape(inner, made), weight), (shape(1, made), wire + weight)];
        let load = Program::new([
            input(matrices[0].0, matrices[0].1),
            input(matrices[1].0, matrices[1].1),
            (Op::Keep(Keep), vec![NodeId(0)]),
            (Op::Keep(Keep), vec![NodeId(1)]),
        ]);
        let load = Arc::new(load.expect("a load program"));
        let term = |at: usize, factor| {
            let (shape, frac) = matrices[at];
            let matrix = Matrix { input: NodeId(at as u16), shape, frac };
            Term { matrix, rows: Chosen::all(shape.rows()), cols: Chosen::all(shape.cols()), factor }
        };
        let terms = vec![term(0, Factor::Rows(Left { ring: LOADED, shift: 0 })), term(1, Factor::One)];
        let private = Private::new(*load.digest(), terms, LOADED, wire + weight).expect("they fit");
        let program = Program::new([
            input(shape(rows, inner), wire),
            (Op::Pads(Pads::own(LOADED, LOADED).expect("the same ring")), vec![NodeId(0)]),
            (Op::Private(private), vec![NodeId(0), NodeId(1)]),
            (Op::Output(Output), vec![NodeId(2)]),
        ]);
        let program = Arc::new(program.expect("a program"));
        let [rows, inner, made] = [rows, inner, made].map(|size| size as usize);
        Self { load, program, rows, inner, made }
    }

    /// Some weights: W and b.
    #[must_use]
    pub fn weights(&self, seed: u64) -> [Vec<i64>; 2] {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut some = |count, most: i64| (0..count).map(|_| rng.random_range(-most..most)).collect();
        [some(self.inner * self.made, 1 << 14), some(self.made, 1 << 40)]
    }

    /// Some rows.
    #[must_use]
    pub fn rows(&self, seed: u64) -> Vec<i64> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..self.rows * self.inner).map(|_| rng.random_range(-(1 << 24)..1 << 24)).collect()
    }

    /// What must come out.
    #[must_use]
    pub fn right(&self, [w, b]: &[Vec<i64>; 2], x: &[i64]) -> Vec<i64> {
        let row = |x: &[i64]| {
            let mut y = b.clone();
            for (x, w) in x.iter().zip(w.chunks_exact(self.made)) {
                y.iter_mut().zip(w).for_each(|(y, w)| *y += x * w);
            }
            y
        };
        x.chunks_exact(self.inner).flat_map(row).collect()
    }

    /// Both parties' shares of the inputs of `program`, which is one of the two.
    ///
    /// # Panics
    /// Never: they have rings.
    #[must_use]
    pub fn share(&self, program: &Program, inputs: &[Vec<i64>], seed: u64) -> Vec<[Vec<u64>; 2]> {
        inputs_of(program, inputs, seed).map(|(_, shares)| shares).collect()
    }

    /// The terms of a load of it under `name`, which every client may use. The digest is made of `salt`.
    #[must_use]
    pub fn terms(&self, name: &str, salt: u8) -> LoadTerms {
        LoadTerms {
            name: name.into(),
            digest: vec![salt; 32].into(),
            programs: vec![self.program.digest().to_vec().into()],
            clients: Vec::new(),
        }
    }
}

/// Each input of `program`, with its ring and both parties' shares of it.
fn inputs_of(
    program: &Program,
    inputs: &[Vec<i64>],
    seed: u64,
) -> impl Iterator<Item = ((NodeId, Ring), [Vec<u64>; 2])> {
    (seed..).zip(program.inputs().zip(inputs)).map(|(seed, (node, values))| {
        let ring = program.node(node).ring().expect("an input makes a wire");
        ((node, ring), share_in(ring, values, seed))
    })
}

/// A request for a run of `program`.
#[must_use]
pub fn request(program: &Program, run: RunId) -> StartRunRequest {
    StartRunRequest {
        program: program.encoded().to_vec().into(),
        run_id: run.0.to_vec().into(),
        ..StartRunRequest::default()
    }
}

/// A new id for a run.
///
/// # Panics
/// When the system gives no entropy.
#[must_use]
pub fn fresh() -> RunId {
    RunId(os_random().expect("entropy"))
}

/// The SHA-256 of the certificate `name` of the hosts' folder, as terms name a client.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn fingerprint(hosts: &Hosts, name: &str) -> Vec<u8> {
    let file = std::fs::read(hosts.folder().join("pki").join(format!("{name}.pem"))).expect("a certificate");
    let certificate = suf_link::pem::certificates(&file).expect("a certificate").swap_remove(0);
    Owner::of(&certificate).hash().to_vec()
}

/// Of a load that was refused, or failed: why.
pub type Refused = String;

impl Caller {
    /// Starts what `request` describes at both parties.
    ///
    /// # Errors
    /// The first party's that refuses it.
    pub async fn start_request(&self, request: &StartRunRequest) -> Result<RunId, Status> {
        for party in Party::BOTH {
            self.party(party).start_run(request.clone()).await?;
        }
        Ok(RunId(request.run_id[..].try_into().expect("an id")))
    }

    /// A run that is started, with its inputs, to its end at both parties.
    ///
    /// # Errors
    /// How it failed.
    ///
    /// # Panics
    /// When a party does not tell.
    pub async fn feed(
        &self,
        program: &Program,
        run: RunId,
        inputs: &[Vec<i64>],
    ) -> Result<[Run; 2], Refused> {
        let shares: Vec<_> = inputs_of(program, inputs, 1).collect();
        for party in Party::BOTH {
            self.reached(party, run, Some(RunState::ReadyForInput)).await?;
        }
        for (place, shares) in &shares {
            for (party, share) in Party::BOTH.into_iter().zip(shares) {
                // A run that has ended meanwhile tells why.
                let _ = self.submit_to(party, run, *place, share).await;
            }
        }
        let mut ends = Vec::new();
        for party in Party::BOTH {
            ends.push(self.reached(party, run, None).await?);
        }
        Ok(ends.try_into().expect("two parties"))
    }

    /// The run at `party` when it is in `state`, or over; without a state, when it is over.
    async fn reached(&self, party: Party, run: RunId, state: Option<RunState>) -> Result<Run, Refused> {
        let told = |status: Status| status.message().to_owned();
        let mut watching = self.party(party).watch_run(by_id(run)).await.map_err(told)?.into_inner();
        let mut last = None;
        while let Some(now) = watching.message().await.map_err(told)? {
            let is_there = Some(now.state()) == state;
            last = Some(now);
            if is_there {
                break;
            }
        }
        let last = last.ok_or("no state was told")?;
        match &last.failure {
            Some(failure) => Err(failure.reason.clone()),
            None => Ok(last),
        }
    }

    /// Loads `weights` of `model` under `terms`.
    ///
    /// # Errors
    /// Why it is refused, or how it failed.
    ///
    /// # Panics
    /// When a party does not tell.
    pub async fn load(
        &self,
        model: &Sum,
        terms: LoadTerms,
        weights: &[Vec<i64>; 2],
    ) -> Result<[Run; 2], Refused> {
        let run = fresh();
        let request = StartRunRequest { terms: Some(terms), ..request(&model.load, run) };
        let run = self.start_request(&request).await.map_err(|status| status.message().to_owned())?;
        self.feed(&model.load, run, weights).await
    }

    /// What `model` makes of the rows `x` with the load that has the digest of `salt`.
    ///
    /// # Errors
    /// Why it is refused, or how it failed.
    ///
    /// # Panics
    /// When a party does not tell.
    pub async fn run_on(&self, model: &Sum, salt: u8, x: &[i64]) -> Result<Vec<i64>, Refused> {
        let run = fresh();
        let request = StartRunRequest { load: vec![salt; 32].into(), ..request(&model.program, run) };
        let run = self.start_request(&request).await.map_err(|status| status.message().to_owned())?;
        self.feed(&model.program, run, &[x.to_vec()]).await?;
        self.output(run).await.map_err(|status| status.message().to_owned())
    }

    /// The loads that it sees at `party`, newest first.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn loads(&self, party: Party) -> Vec<Load> {
        let list = self.party(party).list_loads(ListLoadsRequest {}).await;
        list.expect("a list").into_inner().loads
    }

    /// Drops the load of `salt` at `party`.
    ///
    /// # Errors
    /// The party's.
    pub async fn drop_load(&self, party: Party, salt: u8) -> Result<Load, Status> {
        let reference = LoadRef { digest: vec![salt; 32].into() };
        Ok(self.party(party).drop_load(reference).await?.into_inner())
    }

    /// The output of a run on a load.
    ///
    /// # Errors
    /// A party's.
    pub async fn output(&self, run: RunId) -> Result<Vec<i64>, Status> {
        let place = (NodeId(3), Ring::new(64));
        let first = self.fetch_from(Party::P0, by_id(run), place).await?;
        let second = self.fetch_from(Party::P1, by_id(run), place).await?;
        Ok(unite_in(LOADED, &[first, second]))
    }

    /// Whether what comes out of `model` on its load of `salt`, with `weights`, is right.
    ///
    /// # Errors
    /// Why it is refused, or how it failed.
    ///
    /// # Panics
    /// When another number comes out.
    pub async fn is_right(
        &self,
        model: &Sum,
        salt: u8,
        weights: &[Vec<i64>; 2],
        seed: u64,
    ) -> Result<(), Refused> {
        let x = model.rows(seed);
        let y = self.run_on(model, salt, &x).await?;
        assert_eq!(y, model.right(weights, &x), "load {salt}, rows of seed {seed}");
        Ok(())
    }
}
