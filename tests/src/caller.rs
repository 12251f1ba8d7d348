//! Callers of the control API without the program between: whoever holds a certificate, and says what it likes.

use std::sync::Arc;

use suf_cli::client::{connect, describe, os_random, reference};
use suf_control::{
    client,
    limits::ELEMENTS_PER_MESSAGE,
    shares,
    v1::{
        InputPart, ListRunsRequest, OutputRef, Run, RunRef, RunState, StartRunRequest, TensorHeader,
        input_part, output_part, party_client::PartyClient,
    },
};
use suf_gate::{Gate, NodeId, Program, Ring, ring::WIRE};
use suf_link::Identity;
use suf_wire::{Party, Role, RunHash, RunId};
use tonic::{Status, transport::Channel};

use crate::processes::Hosts;

/// A certificate's holder, connected to both parties.
pub struct Caller {
    parties: [PartyClient<Channel>; 2],
}

impl Caller {
    /// Connects with the certificate `name` of the hosts' folder.
    ///
    /// # Panics
    /// When a party cannot be reached.
    pub async fn connect(hosts: &Hosts, name: &str) -> Self {
        let identity = Identity::load_from(&hosts.folder().join("pki"), name).expect("a certificate");
        let connect = async |party: Party| {
            let url = hosts.control_url(party.role().name());
            client::party(connect(&url, &identity, party.role()).await.expect("the party answers"))
        };
        Self { parties: [connect(Party::P0).await, connect(Party::P1).await] }
    }

    /// Calls to one party.
    #[must_use]
    pub fn party(&self, party: Party) -> PartyClient<Channel> {
        self.parties[party.index()].clone()
    }

    /// Starts a run at both parties: its id.
    ///
    /// # Panics
    /// When a party refuses it.
    pub async fn start(&self, gate: &Gate, elements: u64) -> RunId {
        let run = RunId(os_random().expect("entropy"));
        for party in Party::BOTH {
            let started = self.start_at(party, run, gate, elements).await.expect("the party takes it");
            assert_eq!(started.run_id[..], run.0);
        }
        run
    }

    /// Starts a run at one party.
    ///
    /// # Errors
    /// The party's.
    pub async fn start_at(
        &self,
        party: Party,
        run: RunId,
        gate: &Gate,
        elements: u64,
    ) -> Result<Run, Status> {
        let request = StartRunRequest {
            gate: Some(describe(gate)),
            elements,
            run_id: run.0.to_vec().into(),
            ..StartRunRequest::default()
        };
        Ok(self.party(party).start_run(request).await?.into_inner())
    }

    /// Starts a run of a whole program at both parties: its id.
    ///
    /// # Panics
    /// When a party refuses it.
    pub async fn start_program(&self, program: &Program) -> RunId {
        let run = RunId(os_random().expect("entropy"));
        for party in Party::BOTH {
            let request = StartRunRequest {
                program: program.encoded().to_vec().into(),
                run_id: run.0.to_vec().into(),
                ..StartRunRequest::default()
            };
            self.party(party).start_run(request).await.expect("the party takes it");
        }
        run
    }

    /// Follows a run at a party until it is in one of `states`, or over.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn follow(&self, party: Party, run: RunRef, states: &[RunState]) -> Run {
        let watching = self.party(party).watch_run(run).await.expect("the party tells");
        let mut watching = watching.into_inner();
        let mut last = None;
        while let Some(now) = watching.message().await.expect("the party tells") {
            if states.contains(&now.state()) {
                return now;
            }
            last = Some(now);
        }
        last.expect("a state")
    }

    /// Hands one party its share of the only input, a gate's.
    ///
    /// # Errors
    /// The party's.
    pub async fn submit(&self, party: Party, run: RunId, share: &[u64]) -> Result<u64, Status> {
        self.submit_to(party, run, (NodeId(0), WIRE), share).await
    }

    /// Hands one party its share of an input, whose node and ring are given.
    ///
    /// # Errors
    /// The party's.
    pub async fn submit_to(
        &self,
        party: Party,
        run: RunId,
        (node, ring): (NodeId, Ring),
        share: &[u64],
    ) -> Result<u64, Status> {
        let header =
            TensorHeader { run_id: run.0.to_vec().into(), elements: share.len() as u64, node: node.0.into() };
        let messages = share.chunks(ELEMENTS_PER_MESSAGE).map(|share| shares::pack(ring.bits(), share));
        let parts: Vec<_> = std::iter::once(input_part::Part::Header(header))
            .chain(messages.map(input_part::Part::Shares))
            .map(|part| InputPart { part: Some(part) })
            .collect();
        let reply = self.party(party).submit_input(tokio_stream::iter(parts)).await?;
        Ok(reply.into_inner().elements)
    }

    /// Fetches one party's share of the only output, a gate's.
    ///
    /// # Errors
    /// The party's.
    pub async fn fetch(&self, party: Party, run: RunRef) -> Result<Vec<u64>, Status> {
        self.fetch_from(party, run, (NodeId(0), WIRE)).await
    }

    /// Fetches one party's share of an output, whose node and ring are given.
    ///
    /// # Errors
    /// The party's.
    pub async fn fetch_from(
        &self,
        party: Party,
        run: RunRef,
        (node, ring): (NodeId, Ring),
    ) -> Result<Vec<u64>, Status> {
        let output = OutputRef { run: Some(run), node: node.0.into() };
        let mut parts = self.party(party).fetch_output(output).await?.into_inner();
        let mut share = Vec::new();
        while let Some(part) = parts.message().await? {
            if let Some(output_part::Part::Shares(bytes)) = part.part {
                shares::unpack_into(ring.bits(), &bytes, u64::MAX, &mut share).expect("shares");
            }
        }
        Ok(share)
    }

    /// What one party lists, newest first.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn list(&self, party: Party, active_only: bool) -> Vec<Run> {
        let listed = self.party(party).list_runs(ListRunsRequest { limit: 1000, active_only }).await;
        listed.expect("the party lists runs").into_inner().runs
    }

    /// The ends of all runs that one party lists, waiting for each.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn ends(&self, party: Party) -> Vec<Run> {
        let mut ends = Vec::new();
        for run in self.list(party, false).await {
            let by_hash = RunRef { run_hash: run.run_hash, ..RunRef::default() };
            ends.push(self.follow(party, by_hash, &[]).await);
        }
        ends
    }
}

/// A run by the hash of its id.
#[must_use]
pub fn by_hash(run: RunHash) -> RunRef {
    RunRef { run_hash: run.0.to_vec().into(), ..RunRef::default() }
}

/// A run by its id.
#[must_use]
pub fn by_id(run: RunId) -> RunRef {
    reference(run)
}

/// GELU under `onehot`.
///
/// # Panics
/// Never: it is built in.
#[must_use]
pub fn gelu() -> Arc<Gate> {
    let file = suf_gate::gatefile::GateFile::builtin("gelu").expect("built in");
    Arc::new(suf_gate::catalog::gate(&file, suf_gate::Protocol::Onehot, None).expect("in the file"))
}

/// An operator's channel to the dealer.
///
/// # Panics
/// When it cannot be reached.
pub async fn dealer_channel(hosts: &Hosts) -> Channel {
    let identity = Identity::load_from(&hosts.folder().join("pki"), "operator").expect("a certificate");
    connect(&hosts.control_url("dealer"), &identity, Role::Dealer).await.expect("the dealer answers")
}
