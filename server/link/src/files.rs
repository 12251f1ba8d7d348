//! What is said when a file of certificates or keys cannot be written.

use std::io::ErrorKind;

use suf_files::Unwritten;

use crate::error::LinkError;
use crate::pem::wrong;

impl From<Unwritten> for LinkError {
    fn from(Unwritten { path, source }: Unwritten) -> Self {
        match source.kind() {
            ErrorKind::AlreadyExists => wrong(
                &path,
                "exists already, and nothing was changed; name another folder or file, or remove it first",
            ),
            kind @ (ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                Self::NoSpace { path, source: kind.into() }
            }
            _ => wrong(&path, format!("cannot be written: {source}; see its folder and its permissions")),
        }
    }
}
