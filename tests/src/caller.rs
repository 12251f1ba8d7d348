//! Callers of the control API without the program between: whoever holds a certificate, and says what it likes.

use std::sync::Arc;

use suf_cli::client::{connect, describe, os_random, reference};
use suf_control::{
    client, shares,
    v1::{
        InputPart, ListRunsRequest, Run, RunRef, RunState, StartRunRequest, TensorHeader, input_part,
        output_part, party_client::PartyClient,
    },
};
use suf_gate::Gate;
use suf_link::Identity;
use suf_wire::{PartyId, Role, RunHash, RunId};
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
        let connect = async |party: PartyId| {
            let url = hosts.control_url(party.role().name());
            client::party(connect(&url, &identity, party.role()).await.expect("the party answers"))
        };
        Self { parties: [connect(PartyId::P0).await, connect(PartyId::P1).await] }
    }

    /// Calls to one party.
    #[must_use]
    pub fn party(&self, party: PartyId) -> PartyClient<Channel> {
        self.parties[party.index()].clone()
    }

    /// Starts a run at both parties: its id.
    ///
    /// # Panics
    /// When a party refuses it.
    pub async fn start(&self, gate: &Gate, elements: u64) -> RunId {
        let run = RunId(os_random().expect("entropy"));
        for party in PartyId::BOTH {
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
        party: PartyId,
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

    /// Follows a run at a party until it is in one of `states`, or over.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn follow(&self, party: PartyId, run: RunRef, states: &[RunState]) -> Run {
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

    /// Hands one party its share.
    ///
    /// # Errors
    /// The party's.
    pub async fn submit(&self, party: PartyId, run: RunId, share: &[u64]) -> Result<u64, Status> {
        let header = TensorHeader { run_id: run.0.to_vec().into(), elements: share.len() as u64 };
        let parts = [input_part::Part::Header(header), input_part::Part::Shares(shares::pack(share))];
        let parts = parts.map(|part| InputPart { part: Some(part) });
        let reply = self.party(party).submit_input(tokio_stream::iter(parts)).await?;
        Ok(reply.into_inner().elements)
    }

    /// Fetches one party's share of the output.
    ///
    /// # Errors
    /// The party's.
    pub async fn fetch(&self, party: PartyId, run: RunRef) -> Result<Vec<u64>, Status> {
        let mut parts = self.party(party).fetch_output(run).await?.into_inner();
        let mut share = Vec::new();
        while let Some(part) = parts.message().await? {
            if let Some(output_part::Part::Shares(bytes)) = part.part {
                shares::unpack_into(&bytes, u64::MAX, &mut share).expect("shares");
            }
        }
        Ok(share)
    }

    /// What one party lists, newest first.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn list(&self, party: PartyId, active_only: bool) -> Vec<Run> {
        let listed = self.party(party).list_runs(ListRunsRequest { limit: 1000, active_only }).await;
        listed.expect("the party lists runs").into_inner().runs
    }

    /// The ends of all runs that one party lists, waiting for each.
    ///
    /// # Panics
    /// When the party does not tell.
    pub async fn ends(&self, party: PartyId) -> Vec<Run> {
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
