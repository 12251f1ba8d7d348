//! Identifiers of runs, batches, programs, parties and roles, and who is at fault.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::codec::{Cursor, Decode, Encode, WireError, put_text};
use crate::limits::MAX_REASON_BYTES;

/// Text that is not the hexadecimal form of an identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: {digits} hexadecimal digits wanted")]
pub struct HexError {
    what: &'static str,
    digits: usize,
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                let mut bytes = [0; $bytes];
                unhex(text, &mut bytes).ok_or(HexError { what: $field, digits: 2 * $bytes })?;
                Ok(Self(bytes))
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
                out.extend_from_slice(&self.0);
                Ok(())
            }
        }

        impl Decode for $name {
            fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
                Ok(Self(cursor.array($field)?))
            }
        }
    };
}

/// Public identifiers are printed as they are.
macro_rules! shown {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        /// The first 4 bytes: enough to tell two apart in a log.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let [a, b, c, d, ..] = self.0;
                write!(f, concat!(stringify!($name), "({:02x}{:02x}{:02x}{:02x}..)"), a, b, c, d)
            }
        }
    )*};
}

identifier!(
    /// One run of one program, 128 random bits drawn by its client. Only that client and the two parties know it, so it has no
    /// `Display`: logs, errors and listings for others show its [`RunHash`].
    RunId, 16, "run"
);
identifier!(
    /// One batch of one-time keys, 128 random bits. A batch is consumed once, or burnt.
    BatchId, 16, "batch"
);
identifier!(
    /// BLAKE3 of a canonical program or gate.
    Digest, 32, "digest"
);
shown!(BatchId, Digest);

impl BatchId {
    /// Appends a batch, or zeros for none.
    pub(crate) fn encode_or_zeros(batch: Option<Self>, out: &mut Vec<u8>) -> Result<(), WireError> {
        if batch == Some(NO_BATCH) {
            return Err(WireError::Unknown { field: "batch", value: 0 });
        }
        batch.unwrap_or(NO_BATCH).encode(out)
    }

    /// The inverse of [`BatchId::encode_or_zeros`].
    pub(crate) fn decode_or_zeros(cursor: &mut Cursor<'_>) -> Result<Option<Self>, WireError> {
        Self::decode(cursor).map(|batch| (batch != NO_BATCH).then_some(batch))
    }
}

/// What stands for no batch.
const NO_BATCH: BatchId = BatchId([0; 16]);

/// What stands for no load.
const NO_LOAD: Digest = Digest([0; 32]);

/// A load of private weights, as the parties name it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadName {
    /// What its owner calls it: a digest of the weights and a salt, never zeros.
    pub digest: Digest,
    /// The batch under which the matrices were opened; none in the run that opens them.
    pub batch: Option<BatchId>,
}

impl LoadName {
    /// Appends a load, or zeros for none.
    pub(crate) fn encode_or_zeros(load: Option<Self>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let Some(Self { digest, batch }) = load else {
            out.extend([0; NO_LOAD.0.len() + NO_BATCH.0.len()]);
            return Ok(());
        };
        if digest == NO_LOAD {
            return Err(WireError::Unknown { field: "load", value: 0 });
        }
        digest.encode(out)?;
        BatchId::encode_or_zeros(batch, out)
    }

    /// The inverse of [`LoadName::encode_or_zeros`].
    pub(crate) fn decode_or_zeros(cursor: &mut Cursor<'_>) -> Result<Option<Self>, WireError> {
        let digest = Digest(cursor.array("load")?);
        let batch = BatchId(cursor.array("load_batch")?);
        match (digest, batch) {
            (NO_LOAD, NO_BATCH) => Ok(None),
            (NO_LOAD, _) => Err(WireError::Unknown { field: "load", value: 0 }),
            _ => Ok(Some(Self { digest, batch: (batch != NO_BATCH).then_some(batch) })),
        }
    }
}

/// Separates the hash of a run's id from every other hash.
const RUN_HASH_DOMAIN: &[u8] = b"suf/v1/run-hash";

/// Written before a run's hash, so that it is never taken for an id.
const RUN_HASH_PREFIX: &str = "hash:";

/// What everybody but a run's client calls the run: the first 16 bytes of BLAKE3 of `suf/v1/run-hash` and the run's id. It gives
/// neither the id nor access to the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunHash(pub [u8; 16]);

impl RunId {
    /// The run's name for everybody but its client.
    #[must_use]
    pub fn public_hash(&self) -> RunHash {
        let digest = blake3::Hasher::new().update(RUN_HASH_DOMAIN).update(&self.0).finalize();
        let (first, _) = digest.as_bytes().split_first_chunk().expect("BLAKE3 has 32 bytes");
        RunHash(*first)
    }

    /// The id in hexadecimal digits, for the run's client alone.
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The hash: an id in an error or a log would tell it to others.
impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.public_hash())
    }
}

/// `hash:` and 32 hexadecimal digits.
impl fmt::Display for RunHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RUN_HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RunHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunHash {
    type Err = HexError;
    fn from_str(text: &str) -> Result<Self, HexError> {
        let mut bytes = [0; 16];
        let digits = text.strip_prefix(RUN_HASH_PREFIX);
        digits
            .and_then(|digits| unhex(digits, &mut bytes))
            .ok_or(HexError { what: "the hash of a run is hash: and", digits: 32 })?;
        Ok(Self(bytes))
    }
}

/// One of the two evaluating parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// Party 0.
    P0,
    /// Party 1.
    P1,
}

impl Party {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::P0, Self::P1];

    /// The party at the other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::P0 => Self::P1,
            Self::P1 => Self::P0,
        }
    }

    /// 0 or 1.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The role that this party's certificate carries.
    pub const fn role(self) -> Role {
        match self {
            Self::P0 => Role::Party0,
            Self::P1 => Role::Party1,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.role().fmt(f)
    }
}

impl Encode for Party {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(*self as u8);
        Ok(())
    }
}

impl Decode for Party {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        match cursor.u8("party")? {
            0 => Ok(Self::P0),
            1 => Ok(Self::P1),
            value => Err(WireError::Unknown { field: "party", value: value.into() }),
        }
    }
}

/// What a certificate entitles its holder to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Makes keys for both parties.
    Dealer,
    /// Evaluates as party 0.
    Party0,
    /// Evaluates as party 1.
    Party1,
    /// Starts, watches and cancels runs.
    Operator,
    /// Submits shares and collects results.
    Client,
    /// Watches.
    Observer,
    /// Owns a model, and loads its private weights.
    Model,
}

impl Role {
    /// All roles, in the order of their numbers on the wire.
    pub const ALL: [Self; 7] =
        [Self::Dealer, Self::Party0, Self::Party1, Self::Operator, Self::Client, Self::Observer, Self::Model];

    /// The name in certificates, file names and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dealer => "dealer",
            Self::Party0 => "party0",
            Self::Party1 => "party1",
            Self::Operator => "operator",
            Self::Client => "client",
            Self::Observer => "observer",
            Self::Model => "model",
        }
    }

    /// The inverse of [`Role::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// The party that this role is, if it is one.
    pub const fn party(self) -> Option<Party> {
        match self {
            Self::Party0 => Some(Party::P0),
            Self::Party1 => Some(Party::P1),
            _ => None,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Encode for Role {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(*self as u8);
        Ok(())
    }
}

impl Decode for Role {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let value = cursor.u8("role")?;
        let role = Self::ALL.get(usize::from(value)).copied();
        role.ok_or(WireError::Unknown { field: "role", value: value.into() })
    }
}

/// The side at fault when something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The other party, or its network.
    Peer,
    /// The dealer, or its network.
    Dealer,
    /// A GPU, a disk, memory.
    Device,
    /// A configuration file, a certificate, a port.
    Config,
    /// The caller.
    Caller,
    /// This program.
    Bug,
}

impl Fault {
    /// All faults, in the order of their numbers on the wire.
    pub const ALL: [Self; 6] =
        [Self::Peer, Self::Dealer, Self::Device, Self::Config, Self::Caller, Self::Bug];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Peer => "peer",
            Self::Dealer => "dealer",
            Self::Device => "device",
            Self::Config => "configuration",
            Self::Caller => "caller",
            Self::Bug => "bug",
        })
    }
}

impl Encode for Fault {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        out.push(*self as u8);
        Ok(())
    }
}

impl Decode for Fault {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let value = cursor.u8("fault")?;
        let fault = Self::ALL.get(usize::from(value)).copied();
        fault.ok_or(WireError::Unknown { field: "fault", value: value.into() })
    }
}

/// A sentence for the other side's log: at most [`MAX_REASON_BYTES`] bytes of text without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Control characters become spaces; what does not fit is cut at a character's border.
    pub fn new(text: &str) -> Self {
        let mut plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        plain.truncate(plain.floor_char_boundary(MAX_REASON_BYTES));
        Self(plain)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<T: AsRef<str>> From<T> for Reason {
    fn from(text: T) -> Self {
        Self::new(text.as_ref())
    }
}

impl Encode for Reason {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        put_text(out, "reason", &self.0, MAX_REASON_BYTES)
    }
}

impl Decode for Reason {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        Ok(Self(cursor.text("reason", MAX_REASON_BYTES)?))
    }
}

fn unhex(text: &str, bytes: &mut [u8]) -> Option<()> {
    // The test for ASCII digits comes first: `from_str_radix` alone would also take a sign.
    if text.len() != 2 * bytes.len() || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_printed_by_its_hash_alone() {
        let run: RunId = "0f".repeat(16).parse().expect("32 digits");
        let hash = run.public_hash();
        assert_eq!(run.reveal().parse(), Ok(run));
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert!(format!("{run:?}").contains(&hash.to_string()));
        assert!(run.reveal().parse::<RunHash>().is_err(), "an id is no hash");
        assert!(hash.to_string().parse::<RunId>().is_err(), "a hash is no id");
    }
}
