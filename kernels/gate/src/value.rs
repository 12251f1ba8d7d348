//! Values: what a wire's tile is at one party while a program runs. They stay on the device that made them; who needs
//! numbers brings them to the host.

use std::{any::Any, fmt, ops::Deref, sync::Arc};

use crate::BackendError;

/// A tile of a wire, on some device.
pub trait Value: Any + Send + Sync {
    /// Number of elements.
    fn elems(&self) -> usize;

    /// The elements where they are, if that is the host's memory.
    fn view(&self) -> Option<&[u64]>;

    /// The elements, in the host's memory. The last holder gets them without a copy.
    ///
    /// # Errors
    /// When the device fails.
    fn words(self: Arc<Self>) -> Result<Vec<u64>, BackendError>;
}

/// The elements of a value, copied only from another device.
pub(crate) enum Words {
    Here(Arc<dyn Value>),
    Copied(Vec<u64>),
}

impl Words {
    pub(crate) fn of(value: Arc<dyn Value>) -> Result<Self, BackendError> {
        if value.view().is_some() { Ok(Self::Here(value)) } else { value.words().map(Self::Copied) }
    }
}

impl Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        match self {
            Self::Here(value) => value.view().unwrap_or_default(),
            Self::Copied(words) => words,
        }
    }
}

/// A value in the host's memory.
pub struct HostValue(Vec<u64>);

impl HostValue {
    /// Takes the elements.
    #[must_use]
    pub fn shared(words: Vec<u64>) -> Arc<dyn Value> {
        Arc::new(Self(words))
    }
}

impl Value for HostValue {
    fn elems(&self) -> usize {
        self.0.len()
    }

    fn view(&self) -> Option<&[u64]> {
        Some(&self.0)
    }

    fn words(self: Arc<Self>) -> Result<Vec<u64>, BackendError> {
        Ok(Arc::try_unwrap(self).map_or_else(|shared| shared.0.clone(), |only| only.0))
    }
}

/// Never the elements: a client's shares are among them.
impl fmt::Debug for HostValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostValue({} elements)", self.0.len())
    }
}

impl fmt::Debug for dyn Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} elements)", self.elems())
    }
}
