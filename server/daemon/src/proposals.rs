//! How the parties agree on a run: party 0 proposes it when its turn has come, and party 1 answers.

use std::{sync::Arc, time::Duration};

use suf_control::v1;
use suf_link::{Connection, LinkError, Session};
use suf_party::{Event, Plan, Run, RunFailure};
use suf_wire::{BatchId, Fault, Party, PeerMessage, Propose, RunId};

use crate::{
    active::ActiveRun,
    entry::Entry,
    host::Host,
    peer::{SOFTWARE, from_peer, open},
    queue::{Place, Ticket, Turn},
    service::to_control,
};

/// Proposes the run of `entry` to the other party, at once or when its turn has come, and moves its messages.
pub(crate) fn propose(host: &Arc<Host>, entry: &Arc<Entry>) {
    let place = match host.ticket(&entry.registration().program).map(|ticket| (ticket.now(), ticket)) {
        None => None,
        Some((Turn::Place(place), _)) => Some(place),
        Some((Turn::Ahead(ahead), ticket)) => {
            entry.wait_behind(ahead);
            let (host, entry) = (Arc::clone(host), Arc::clone(entry));
            host.clone().evaluation().spawn(async move {
                if let Err(failure) = propose_in_turn(&host, &entry, ticket).await {
                    // One that is at work ends by its own machine.
                    let _at_work = entry.end_early(v1::RunState::Failed, to_control(failure));
                }
            });
            return;
        }
    };
    let Some(active) = start(host, entry, place) else { return };
    let (host, me) = (Arc::clone(host), entry.me());
    host.clone().evaluation().spawn(async move {
        match open(&host, me).await {
            Ok((connection, session)) => active.serve(connection, session).await,
            Err(failure) => active.feed(Event::Failed(failure)),
        }
    });
}

/// The machine of a run that this party proposes.
fn start(host: &Arc<Host>, entry: &Arc<Entry>, place: Option<Place>) -> Option<Arc<ActiveRun>> {
    let plan = entry.registration().with_batch(BatchId(entropy()));
    ActiveRun::start(host, entry, Run::propose(plan), place)
}

/// 16 bytes from the operating system.
fn entropy() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives entropy");
    bytes
}

/// Waits for the run's turn, tells the other party how it stands meanwhile, then proposes it.
async fn propose_in_turn(host: &Arc<Host>, entry: &Arc<Entry>, ticket: Ticket) -> Result<(), RunFailure> {
    let (connection, mut session) = tokio::select! {
        opened = open(host, entry.me()) => opened?,
        _ = entry.ended() => return Ok(()),
    };
    let place = tokio::select! {
        place = turn(entry, &ticket, &mut session) => place?,
        last = entry.ended() => {
            let reason = last.failure.map_or_else(String::new, |failure| failure.reason);
            let failure = RunFailure::new(Fault::Caller, reason);
            let (run, reason) = (entry.registration().run, failure.wire_reason());
            session.send(&PeerMessage::Abort { run, fault: failure.fault, reason }).await.map_err(from_peer)?;
            session.end().await;
            return Ok(());
        }
    };
    drop(ticket);
    if let Some(active) = start(host, entry, Some(place)) {
        active.serve(connection, session).await;
    }
    Ok(())
}

/// The run's place, when its turn has come.
async fn turn(entry: &Entry, ticket: &Ticket, session: &mut Session) -> Result<Place, RunFailure> {
    let run = entry.registration().run;
    let mut told = None;
    loop {
        let turn = tokio::select! {
            turn = ticket.after(told) => turn,
            said = session.recv() => return Err(withdrawn(run, said)),
        };
        match turn {
            Turn::Place(place) => return Ok(place),
            Turn::Ahead(ahead) => {
                entry.wait_behind(ahead);
                session.send(&PeerMessage::Queued { run, ahead }).await.map_err(from_peer)?;
                told = Some(ahead);
            }
        }
    }
}

/// What the other party said instead of what was due before both agreed on the run.
fn withdrawn(run: RunId, said: Result<PeerMessage, LinkError>) -> RunFailure {
    match said {
        Ok(PeerMessage::Refuse { fault, reason, .. }) => {
            RunFailure::new(fault, format!("the peer refused the run: {}", reason.as_str()))
        }
        Ok(PeerMessage::Abort { fault, reason, .. }) => {
            RunFailure::new(fault, format!("the peer ended the run: {}", reason.as_str()))
        }
        other => {
            let said = other.map_or_else(|error| error.to_string(), |message| message.name().to_owned());
            RunFailure::new(
                Fault::Peer,
                format!("it withdrew its proposal of run {}: {said}", run.public_hash()),
            )
        }
    }
}

/// Answers a proposal of the other party, and takes part if a client of this party asked for the same run.
pub(crate) async fn answer(
    host: &Arc<Host>,
    connection: Connection,
    mut session: Session,
) -> Result<(), RunFailure> {
    let me = host.config().party();
    let first = async {
        session.greet(me.role(), SOFTWARE).await?;
        session.recv().await
    };
    let first = tokio::time::timeout(host.peer().patience(), first).await;
    let first =
        first.map_err(|_| RunFailure::new(Fault::Peer, "it opened a channel and proposed nothing"))?;
    let (run, first) = match first.map_err(from_peer)? {
        PeerMessage::Propose(propose) => (propose.run, First::Proposal(propose)),
        PeerMessage::Queued { run, ahead } => (run, First::Queued(ahead)),
        other => {
            return Err(RunFailure::new(
                Fault::Peer,
                format!("{} stands where a proposal is due", other.name()),
            ));
        }
    };
    let started = match join(host, run, first, &mut session).await? {
        Ok(Joined { entry, plan, place }) => {
            ActiveRun::start(host, &entry, Run::accept(plan), place).ok_or_else(|| over(me))
        }
        Err(failure) => Err(failure),
    };
    match started {
        Ok(active) => {
            active.serve(connection, session).await;
            Ok(())
        }
        Err(failure) => {
            let (fault, reason) = (failure.fault, failure.wire_reason());
            session.send(&PeerMessage::Refuse { run, fault, reason }).await.map_err(from_peer)?;
            session.end().await;
            Err(failure)
        }
    }
}

/// What party 0 says first of a run.
enum First {
    Proposal(Propose),
    /// The run waits at party 0 behind so many.
    Queued(u16),
}

/// A run on which both parties agree, and its place if it needs one.
struct Joined {
    entry: Arc<Entry>,
    plan: Plan,
    place: Option<Place>,
}

/// Waits until the run is registered here, is proposed, and has its turn. The inner error is one to refuse the run with. With the
/// outer one the proposer has withdrawn the run, which ends here too if it was queued.
async fn join(
    host: &Host,
    run: RunId,
    first: First,
    session: &mut Session,
) -> Result<Result<Joined, RunFailure>, RunFailure> {
    let me = host.config().party();
    if me == Party::P0 {
        return Ok(Err(RunFailure::new(Fault::Peer, "party 0 proposes runs, and party 1 answers")));
    }
    let entry = tokio::select! {
        entry = registered(host, run) => match entry {
            Ok(entry) => entry,
            Err(failure) => return Ok(Err(failure)),
        },
        said = session.recv(), if matches!(first, First::Proposal(_)) => return Err(withdrawn(run, said)),
    };
    let joined = tokio::select! {
        biased;
        joined = joined(host, &entry, first, session) => joined,
        last = entry.ended() => {
            let reason = last.failure.map_or_else(|| over(me).reason, |failure| failure.reason);
            return Ok(Err(RunFailure::new(Fault::Caller, reason)));
        }
    };
    if let Err(failure) = &joined {
        // One that was never queued waits for another proposal.
        if entry.state() == v1::RunState::Queued {
            let _at_work = entry.end_early(v1::RunState::Failed, to_control(failure.clone()));
        }
    }
    joined
}

/// The same for a run that is registered here.
async fn joined(
    host: &Host,
    entry: &Arc<Entry>,
    first: First,
    session: &mut Session,
) -> Result<Result<Joined, RunFailure>, RunFailure> {
    let run = entry.registration().run;
    let propose = match first {
        First::Proposal(propose) => propose,
        First::Queued(mut ahead) => loop {
            entry.wait_behind(ahead);
            match session.recv().await {
                Ok(PeerMessage::Queued { run: again, ahead: now }) if again == run => ahead = now,
                Ok(PeerMessage::Propose(propose)) => break propose,
                said => return Err(withdrawn(run, said)),
            }
        },
    };
    let plan = match entry.registration().agree(&propose) {
        Ok(plan) => plan,
        Err(failure) => {
            // One that is at work was agreed on before, and goes on.
            let _at_work = entry.end_early(v1::RunState::Failed, to_control(failure.clone()));
            return Ok(Err(failure));
        }
    };
    let Some(ticket) = host.ticket(&plan.program) else {
        return Ok(Ok(Joined { entry: Arc::clone(entry), plan, place: None }));
    };
    let mut told = None;
    loop {
        let turn = tokio::select! {
            turn = ticket.after(told) => turn,
            said = session.recv() => return Err(withdrawn(run, said)),
        };
        match turn {
            Turn::Place(place) => {
                return Ok(Ok(Joined { entry: Arc::clone(entry), plan, place: Some(place) }));
            }
            Turn::Ahead(ahead) => {
                entry.wait_behind(ahead);
                told = Some(ahead);
            }
        }
    }
}

/// The run that a client of this party asked for. A proposal may come before the client's own request, and waits for it.
async fn registered(host: &Host, run: RunId) -> Result<Arc<Entry>, RunFailure> {
    let (me, wait_s) = (host.config().party(), host.config().register_wait_s);
    let registered = host.registry().registered(run);
    tokio::time::timeout(Duration::from_secs(wait_s.into()), registered).await.map_err(|_| {
        let reason =
            format!("no client has registered the run at {me} within {wait_s} s: a client starts its run at both parties");
        RunFailure::new(Fault::Caller, reason)
    })
}

fn over(me: Party) -> RunFailure {
    RunFailure::new(Fault::Caller, format!("the run has ended, or is at work already, at {me}"))
}
