//! Models whose private weights are loaded at this party: what is kept of each, who owns it, and who may use it for what.
//!
//! A load is a run of a load program. Its place here is taken before anything is computed, so two loads never have one digest. What
//! its owner says of it stays as it is: which programs may take the matrices, and which clients may run them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use suf_control::{failure::CallFailure, v1};
use suf_gate::{Program, load::Kept};
use suf_wire::{BatchId, Digest, LoadName, Party};
use tonic::Code;

use crate::{
    budget::Reservation,
    ledger::unix_ms,
    ownership::{Owner, Viewer},
};

/// Loads at once, those in the making among them: as many as the dealer keeps by default. Their memory has bounds of its own.
const MOST: usize = 64;

/// Loads of one owner: a quarter, so that three more owners find room.
const MOST_PER_OWNER: usize = 16;

/// Characters of a name: a line of a list.
const MOST_NAME: usize = 64;

/// Programs of a load: all lengths, sizes of batches and protocols that a client may ask for.
const MOST_PROGRAMS: usize = 4096;

/// Clients that a load names. Without a list, every client may run its programs.
const MOST_CLIENTS: usize = 256;

/// All loads of a party.
#[derive(Debug)]
pub(crate) struct Loads {
    me: Party,
    /// Newest last.
    places: Mutex<Vec<Place>>,
}

/// What an owner says of a load.
#[derive(Debug)]
pub(crate) struct Terms {
    name: String,
    digest: Digest,
    programs: HashSet<[u8; 32]>,
    /// None of them: every client.
    clients: HashSet<Owner>,
}

/// What a request says of private weights.
#[derive(Debug)]
pub(crate) enum Asked {
    Nothing,
    /// To load a model.
    Load(Box<Terms>),
    /// To run a program on this load.
    On(Digest),
}

/// What a run has to do with private weights.
#[derive(Debug)]
pub(crate) enum Use {
    Nothing,
    /// It loads a model.
    Makes(Making),
    /// It takes the matrices of a load.
    Takes(Taken),
}

/// A load in the making, which has a place. Dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Making {
    loads: Arc<Loads>,
    digest: Digest,
}

/// A load that a run takes.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) name: LoadName,
    pub(crate) kept: Arc<Kept>,
}

#[derive(Debug)]
struct Place {
    terms: Terms,
    owner: Owner,
    program: Arc<Program>,
    /// None while the load is in the making.
    whole: Option<Whole>,
}

/// A load that is there.
#[derive(Debug)]
struct Whole {
    kept: Arc<Kept>,
    shares: Reservation,
    load_bytes: u64,
    loaded_unix_ms: u64,
    runs: u64,
}

impl Terms {
    fn of(terms: v1::LoadTerms) -> Result<Self, CallFailure> {
        let v1::LoadTerms { name, digest, programs, clients } = terms;
        let wrong = |problem: String| CallFailure::caller(format!("the terms of the load: {problem}"));
        if name.is_empty() || name.chars().count() > MOST_NAME || name.chars().any(char::is_control) {
            return Err(wrong(format!("a name has 1 to {MOST_NAME} characters, and no control characters")));
        }
        if programs.is_empty() || programs.len() > MOST_PROGRAMS {
            return Err(wrong(format!(
                "1 to {MOST_PROGRAMS} programs may take the matrices, not {}",
                programs.len()
            )));
        }
        if clients.len() > MOST_CLIENTS {
            return Err(wrong(format!("at most {MOST_CLIENTS} clients are named, not {}", clients.len())));
        }
        let hash = |what: &str, bytes: &[u8]| {
            let wrong = || wrong(format!("the digest of {what} has 32 bytes, not {}", bytes.len()));
            <[u8; 32]>::try_from(bytes).map_err(|_| wrong())
        };
        let programs = programs.iter().map(|digest| hash("a program", digest)).collect::<Result<_, _>>()?;
        let clients =
            clients.iter().map(|digest| hash("a client's certificate", digest).map(Owner::from_hash));
        let clients = clients.collect::<Result<_, _>>()?;
        Ok(Self { name, digest: digest_of(&digest)?, programs, clients })
    }

    fn admits(&self, client: Owner) -> bool {
        self.clients.is_empty() || self.clients.contains(&client)
    }
}

impl Asked {
    /// What a request with `terms` and `load` asks for, if the role of `viewer` may ask for that.
    pub(crate) fn of(viewer: Viewer, terms: Option<v1::LoadTerms>, load: &[u8]) -> Result<Self, CallFailure> {
        match (viewer, terms) {
            (Viewer::Model(_), Some(terms)) if load.is_empty() => Ok(Self::Load(Box::new(Terms::of(terms)?))),
            (Viewer::Model(_), _) => {
                Err(denied("role model loads models, and starts no other run: it says the terms of a load"))
            }
            (_, Some(_)) => Err(denied("a model is loaded with a certificate of role model")),
            (_, None) if load.is_empty() => Ok(Self::Nothing),
            (_, None) => digest_of(load).map(Self::On),
        }
    }
}

impl Use {
    /// The load, as both parties name it.
    pub(crate) fn name(&self) -> Option<LoadName> {
        match self {
            Self::Nothing => None,
            Self::Makes(making) => Some(LoadName { digest: making.digest, batch: None }),
            Self::Takes(taken) => Some(taken.name),
        }
    }
}

impl Loads {
    /// No load yet, at the party `me`.
    pub(crate) fn new(me: Party) -> Arc<Self> {
        Arc::new(Self { me, places: Mutex::default() })
    }

    /// What a run of `program` that `caller` asks for has to do with loads. Nothing secret has moved yet.
    ///
    /// # Errors
    /// When the program or the load is not for this caller, or is not there.
    pub(crate) fn admit(
        self: &Arc<Self>,
        asked: Asked,
        caller: Owner,
        program: &Arc<Program>,
    ) -> Result<Use, CallFailure> {
        match (asked, program.loads(), program.load()) {
            (Asked::Nothing, false, None) => Ok(Use::Nothing),
            (Asked::Load(terms), true, _) => self.begin(*terms, caller, program).map(Use::Makes),
            (Asked::On(digest), _, Some(wanted)) => {
                self.take(digest, caller, program, wanted).map(Use::Takes)
            }
            (Asked::Load(_), false, _) => {
                Err(denied("role model loads models: the program is no load program"))
            }
            (Asked::Nothing | Asked::On(_), true, _) => {
                Err(denied("the program loads a model: that takes a certificate of role model"))
            }
            (Asked::Nothing, false, Some(_)) => Err(CallFailure::caller(
                "the program takes the weights of a loaded model, and the request names no load; `suf model list` shows those that are \
                 there",
            )),
            (Asked::On(_), false, None) => {
                Err(CallFailure::caller("the request names a load, but the program takes no loaded weights"))
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        terms: Terms,
        owner: Owner,
        program: &Arc<Program>,
    ) -> Result<Making, CallFailure> {
        let mut places = self.lock();
        let (me, digest) = (self.me, terms.digest);
        if places.iter().any(|place| place.terms.digest == digest) {
            let reason = format!("a load with this digest is at {me} already: draw a new salt for each load");
            return Err(CallFailure::caller(reason).with_code(Code::AlreadyExists));
        }
        // A client that asks by name gets what one owner stands for.
        if places.iter().any(|place| place.terms.name == terms.name && place.owner != owner) {
            let reason =
                format!("the name {} belongs to another owner's model at {me}: choose another", terms.name);
            return Err(CallFailure::caller(reason).with_code(Code::AlreadyExists));
        }
        let own = places.iter().filter(|place| place.owner == owner).count();
        for (count, most, whose) in [(places.len(), MOST, ""), (own, MOST_PER_OWNER, " of this owner")] {
            if count >= most {
                let reason = format!("{count} models{whose} are loaded at {me}: drop one (`suf model drop`)");
                return Err(CallFailure::caller(reason).with_code(Code::ResourceExhausted));
            }
        }
        places.push(Place { terms, owner, program: Arc::clone(program), whole: None });
        Ok(Making { loads: Arc::clone(self), digest })
    }

    fn take(
        &self,
        digest: Digest,
        client: Owner,
        program: &Program,
        wanted: &[u8; 32],
    ) -> Result<Taken, CallFailure> {
        let places = self.lock();
        let place = places.iter().find(|place| place.terms.digest == digest && place.terms.admits(client));
        let (place, whole) =
            place.and_then(|place| Some((place, place.whole.as_ref()?))).ok_or_else(|| self.unknown())?;
        if place.program.digest() != wanted {
            let (theirs, wanted) = (Digest(*place.program.digest()), Digest(*wanted));
            return Err(CallFailure::caller(format!(
                "the load is of the load program {theirs}, but the program takes matrices of {wanted}: another model's"
            )));
        }
        if !place.terms.programs.contains(program.digest()) {
            return Err(denied(
                "the owner of the load did not name this program among those that may take its matrices",
            ));
        }
        let name = LoadName { digest, batch: Some(BatchId(whole.kept.load().batch)) };
        Ok(Taken { name, kept: Arc::clone(&whole.kept) })
    }

    /// Counts a run that took the load. False if the load was dropped meanwhile.
    pub(crate) fn count(&self, name: LoadName) -> bool {
        let mut places = self.lock();
        let whole = places.iter_mut().filter_map(|place| place.whole.as_mut());
        let mut whole = whole.filter(|whole| name.batch == Some(BatchId(whole.kept.load().batch)));
        whole.next().map(|whole| whole.runs += 1).is_some()
    }

    /// The loads that `viewer` may know of, newest first. Their active runs are for the caller to count, who has no lock then.
    pub(crate) fn list(&self, viewer: Viewer) -> Vec<(LoadName, v1::Load)> {
        let places = self.lock();
        places.iter().rev().filter(|place| place.is_known_to(viewer)).filter_map(Place::shown).collect()
    }

    /// Takes out the load that `viewer` wants dropped: how it was, and its name. It is wiped when its last run has ended.
    ///
    /// # Errors
    /// When there is no such load, or it is not this caller's: the two are one answer.
    pub(crate) fn remove(&self, viewer: Viewer, digest: &[u8]) -> Result<(LoadName, v1::Load), CallFailure> {
        let digest = digest_of(digest)?;
        let mut places = self.lock();
        let may_drop = |place: &Place| match viewer {
            Viewer::Model(owner) => place.owner == owner,
            Viewer::Host => true,
            Viewer::Client(_) => false,
        };
        let at = places.iter().position(|place| place.terms.digest == digest && may_drop(place));
        let found = at.and_then(|at| Some((at, places[at].shown()?)));
        let (at, shown) = found.ok_or_else(|| self.unknown())?;
        places.remove(at);
        Ok(shown)
    }

    /// The one answer about loads that are not here and about those that are not for the caller.
    fn unknown(&self) -> CallFailure {
        let reason = format!(
            "no such load for this certificate at {}: it was dropped, or this party was restarted, or its owner did not name the \
             certificate; ask the owner to load the model again",
            self.me
        );
        CallFailure::caller(reason).with_code(Code::NotFound)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Place>> {
        // The list is whole after each step.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn is_known_to(&self, viewer: Viewer) -> bool {
        match viewer {
            Viewer::Model(owner) => self.owner == owner,
            Viewer::Client(client) => self.terms.admits(client),
            Viewer::Host => true,
        }
    }

    /// Its name, and what the control API tells of it; none while it is in the making.
    fn shown(&self) -> Option<(LoadName, v1::Load)> {
        let Self { terms, program, .. } = self;
        let whole = self.whole.as_ref()?;
        let name = LoadName { digest: terms.digest, batch: Some(BatchId(whole.kept.load().batch)) };
        let shown = v1::Load {
            name: terms.name.clone(),
            digest: terms.digest.0.to_vec().into(),
            program_digest: program.digest().to_vec().into(),
            bytes: whole.shares.bytes(),
            load_bytes: whole.load_bytes,
            loaded_unix_ms: whole.loaded_unix_ms,
            runs: whole.runs,
            active_runs: 0,
            programs: terms.programs.len() as u32,
            clients: terms.clients.len() as u32,
        };
        Some((name, shown))
    }
}

impl Making {
    /// The load is whole: `kept` in the memory that `shares` stands for. Loading took `load_bytes` of messages per direction.
    pub(crate) fn keep(self, kept: Kept, shares: Reservation, load_bytes: u64) {
        let mut places = self.loads.lock();
        if let Some(place) = places.iter_mut().find(|place| place.terms.digest == self.digest) {
            let (kept, loaded_unix_ms) = (Arc::new(kept), unix_ms());
            place.whole = Some(Whole { kept, shares, load_bytes, loaded_unix_ms, runs: 0 });
        }
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.loads.lock().retain(|place| place.terms.digest != self.digest || place.whole.is_some());
    }
}

/// A load's digest from a request.
fn digest_of(bytes: &[u8]) -> Result<Digest, CallFailure> {
    match bytes.try_into() {
        Ok(digest) if digest != [0; 32] => Ok(Digest(digest)),
        Ok(_) => Err(CallFailure::caller("the digest of a load is not zero")),
        Err(_) => Err(CallFailure::caller(format!("the digest of a load has 32 bytes, not {}", bytes.len()))),
    }
}

fn denied(reason: &str) -> CallFailure {
    CallFailure::caller(reason).with_code(Code::PermissionDenied)
}

#[cfg(test)]
mod tests;
