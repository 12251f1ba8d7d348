//! Whose run is whose: the one rule by which this party lets a caller at a run.
//!
//! A run belongs to the certificate that started it. This party decides that alone, from the caller's certificate: no word of
//! the other party, and no knowledge of an id, changes it. Which role may call which method at all is the table in
//! `suf_control::authority`.

use std::fmt;

use aws_lc_rs::digest;
use suf_control::{authority::Caller, failure::CallFailure, v1};
use suf_wire::{RunHash, RunId};
use tonic::Code;

/// A client or an owner of models, by the SHA-256 of its certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner([u8; 32]);

/// The caller, as far as runs are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Viewer {
    /// A client, with its own runs.
    Client(Owner),
    /// An owner of models, with its own loads and the runs that made them.
    Model(Owner),
    /// An operator or observer of this host, who sees that there are runs.
    Host,
}

/// How a caller names a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunName {
    /// By its id, as its client does.
    Id(RunId),
    /// By the hash of its id, as everybody else does.
    Hash(RunHash),
}

/// What a caller is to a run that it may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its client: everything.
    Owner,
    /// Others: neither its id nor its tensors.
    Other,
}

impl Owner {
    /// The holder of this certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        let hash = digest::digest(&digest::SHA256, certificate);
        Self(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }

    /// The SHA-256 of the certificate, as the terms of a load name it.
    #[must_use]
    pub fn hash(self) -> [u8; 32] {
        self.0
    }

    /// The holder of the certificate with this SHA-256.
    #[must_use]
    pub fn from_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl Viewer {
    /// The caller, by its certificate and the role in it.
    #[must_use]
    pub fn of(caller: &Caller) -> Self {
        match caller.role.as_str() {
            "client" => Self::Client(Owner::of(&caller.peer.certificate)),
            "model" => Self::Model(Owner::of(&caller.peer.certificate)),
            _ => Self::Host,
        }
    }

    /// What this caller is to a run of `owner` in a listing; none if the run is not for it.
    #[must_use]
    pub fn access(self, owner: Owner) -> Option<Access> {
        match self {
            Self::Client(caller) | Self::Model(caller) => (caller == owner).then_some(Access::Owner),
            Self::Host => Some(Access::Other),
        }
    }

    /// What this caller is to a run of `owner` that it calls `name`. An id is the client's own word: from others it names
    /// nothing.
    #[must_use]
    pub fn access_by(self, name: RunName, owner: Owner) -> Option<Access> {
        match (self, name) {
            (Self::Host, RunName::Id(_)) => None,
            _ => self.access(owner),
        }
    }
}

impl RunName {
    /// The run that a request names.
    ///
    /// # Errors
    /// When it names none, or two.
    pub fn of(reference: &v1::RunRef) -> Result<Self, CallFailure> {
        match (&reference.run_id[..], &reference.run_hash[..]) {
            (id, []) => Ok(Self::Id(run_id(id)?)),
            ([], hash) => hash
                .try_into()
                .map(|hash| Self::Hash(RunHash(hash)))
                .map_err(|_| CallFailure::caller(format!("a run's hash has 16 bytes, not {}", hash.len()))),
            _ => Err(CallFailure::caller("name the run by its id or by its hash, not by both")),
        }
    }

    /// The hash of the run's id.
    #[must_use]
    pub fn hash(self) -> RunHash {
        match self {
            Self::Id(id) => id.public_hash(),
            Self::Hash(hash) => hash,
        }
    }
}

/// A run's id from a request.
///
/// # Errors
/// When it does not have 16 bytes.
pub(crate) fn run_id(bytes: &[u8]) -> Result<RunId, CallFailure> {
    bytes
        .try_into()
        .map(RunId)
        .map_err(|_| CallFailure::caller(format!("a run's id has 16 bytes, not {}", bytes.len())))
}

/// The one answer about runs that do not exist and about those of others, so that asking tells nothing.
pub(crate) fn unknown() -> CallFailure {
    let reason = "no such run: a client names runs of its own, by id or by hash. Operators and observers name runs by \
                  hash; `suf runs` lists them";
    CallFailure::caller(reason).with_code(Code::NotFound)
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Owner({a:02x}{b:02x}{c:02x}{d:02x}..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_starting_certificate_owns_a_run_and_an_id_helps_nobody_else() {
        let [ours, theirs] = [&b"ours"[..], b"theirs"].map(Owner::of);
        let id = RunId([7; 16]);
        let (by_id, by_hash) = (RunName::Id(id), RunName::Hash(id.public_hash()));
        for (viewer, name, access) in [
            (Viewer::Client(ours), by_id, Some(Access::Owner)),
            (Viewer::Client(ours), by_hash, Some(Access::Owner)),
            (Viewer::Client(theirs), by_id, None),
            (Viewer::Client(theirs), by_hash, None),
            (Viewer::Host, by_id, None),
            (Viewer::Host, by_hash, Some(Access::Other)),
        ] {
            assert_eq!(viewer.access_by(name, ours), access, "{viewer:?} {name:?}");
        }
    }

    #[test]
    fn a_request_names_one_run() {
        let reference = |id: &[u8], hash: &[u8]| v1::RunRef {
            run_id: id.to_vec().into(),
            run_hash: hash.to_vec().into(),
        };
        let (id, full) = (RunId([7; 16]), [7; 16]);
        assert_eq!(RunName::of(&reference(&full, &[])), Ok(RunName::Id(id)));
        assert_eq!(RunName::of(&reference(&[], &full)), Ok(RunName::Hash(RunHash(full))));
        for wrong in
            [reference(&full, &full), reference(&[], &[]), reference(&[7; 15], &[]), reference(&[], &[7; 17])]
        {
            assert!(RunName::of(&wrong).is_err(), "{wrong:?}");
        }
    }
}
