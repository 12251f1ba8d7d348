//! A folder of results: who may write into it, and what an earlier command left there.

use std::{fs, path::Path};

use suf_files::{FolderLock, Taken};

use crate::{
    error::Error,
    kernel::{self, KernelRecord},
    slopes::{self, Slope},
};

/// The right to write into a folder of results, where the files of this command can be written.
#[derive(Debug)]
pub(crate) struct Folder {
    _lock: FolderLock,
}

/// What reports hold besides the records.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    /// Records of `suf bench kernel`.
    pub(crate) costs: Vec<KernelRecord>,
    /// Records of `suf lab slope`.
    pub(crate) slopes: Vec<Slope>,
}

impl Folder {
    /// Takes `folder`, which is made where it is missing, for `command`, which will write files of these names there. Nothing is written
    /// yet: this is asked before the work.
    ///
    /// # Errors
    /// When another process writes into it, or a file cannot be written.
    pub(crate) fn open<'a>(
        folder: &Path,
        command: &str,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| Error::unwritable(folder, &error))?;
        let who = format!("{command} (process {})", std::process::id());
        let lock = FolderLock::take(folder, &who).map_err(|taken| match taken {
            Taken::By(other) => Error::usage(format!(
                "{} is being written by {other}: wait for it, or name another folder with --out",
                folder.display()
            )),
            Taken::Unusable(error) => Error::unwritable(folder, &error),
        })?;
        for name in names {
            let path = folder.join(name);
            suf_files::check(&path).map_err(|error| Error::unwritable(&path, &error))?;
        }
        Ok(Self { _lock: lock })
    }
}

impl Beside {
    /// What stands in `folder`. What is damaged is left out of the report, left as it is, and warned about.
    pub(crate) fn read(folder: &Path) -> Self {
        Self { costs: kernel::beside(folder), slopes: slopes::beside(folder) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_command_is_told_who_writes_into_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path(), "suf bench", ["records.jsonl"]).unwrap();
        let error = Folder::open(folder.path(), "suf report", ["report.md"]).unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, Error::Usage(_)) && said.contains("suf bench (process "), "{said}");
        drop(first);
        Folder::open(folder.path(), "suf report", ["report.md"]).unwrap();
    }

    #[test]
    fn a_damaged_file_of_an_earlier_command_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(kernel::FILE), "{\"half\": ").unwrap();
        fs::write(folder.path().join(slopes::FILE), "[{").unwrap();
        let beside = Beside::read(folder.path());
        assert!(beside.costs.is_empty() && beside.slopes.is_empty());
        assert_eq!(fs::read_to_string(folder.path().join(slopes::FILE)).unwrap(), "[{");
    }
}
