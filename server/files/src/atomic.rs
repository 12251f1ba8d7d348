//! One file, written beside its target and renamed over it.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufWriter, ErrorKind, IntoInnerError, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, FallocateFlags, access, fallocate},
    io::Errno,
};
use tempfile::NamedTempFile;

/// Links that lead to links, at most; as many as the kernel follows.
const MOST_LINKS: u32 = 40;

/// Permissions of a new file, before the process's mask.
const NEW_FILE: u32 = 0o666;

/// A file that is being written. Its target shows nothing of it before [`AtomicFile::commit`]; dropping it leaves the target
/// as it was.
///
/// A symbolic link stays, and the file that it leads to is replaced. A replaced file keeps its permissions, and its owner
/// where the process may give files away; hard links to it keep the earlier content. What is no regular file, such as
/// `/dev/stdout` or a pipe, is written directly.
#[derive(Debug)]
pub struct AtomicFile(Inner);

#[derive(Debug)]
enum Inner {
    /// A temporary file that will be renamed to `target`.
    Beside { file: NamedTempFile, target: PathBuf },
    /// A pipe, a terminal, a device.
    Direct(File),
}

/// What stands at a path.
enum Target {
    /// A regular file or nothing, at the end of the links.
    File(PathBuf, Option<fs::Metadata>),
    /// Something that takes bytes and cannot be replaced.
    Direct,
}

impl AtomicFile {
    /// Opens the temporary file for `path`. When this works, the folder can be written.
    ///
    /// # Errors
    /// When `path` is a folder, is a file that may not be written, or its folder takes no file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::open(path, None)
    }

    /// As [`AtomicFile::create`]; the file will have `mode`, if it is given. Its bytes are readable by no other users before that.
    fn open(path: &Path, mode: Option<u32>) -> io::Result<Self> {
        let (target, old) = match find(path)? {
            Target::Direct => return Ok(Self(Inner::Direct(OpenOptions::new().append(true).open(path)?))),
            Target::File(target, old) => (target, old),
        };
        let Some(old) = old else {
            return Ok(Self(Inner::Beside { file: with_mode(&target, mode)?, target }));
        };
        // A rename needs no right to the file itself; who took the right away meant it.
        access(&target, Access::WRITE_OK)?;
        let file = beside(&target, old.mode() & 0o700)?;
        if (old.uid(), old.gid()) != (file.as_file().metadata()?.uid(), file.as_file().metadata()?.gid()) {
            // Only root may give files away; others become the owner.
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        file.as_file().set_permissions(Permissions::from_mode(mode.unwrap_or(old.mode() & 0o7777)))?;
        Ok(Self(Inner::Beside { file, target }))
    }

    /// Sets room for `bytes` aside on the disk, where its file system can, so that a full one is found before the work.
    ///
    /// # Errors
    /// When there is no room.
    pub fn reserve(&self, bytes: u64) -> io::Result<()> {
        let Inner::Beside { file, .. } = &self.0 else { return Ok(()) };
        match fallocate(file.as_file(), FallocateFlags::KEEP_SIZE, 0, bytes) {
            Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Puts the file in its target's place, when all of its bytes are on the disk.
    ///
    /// # Errors
    /// When they cannot be written, or the target cannot be replaced; it is then as it was.
    pub fn commit(self) -> io::Result<()> {
        match self.0 {
            Inner::Direct(mut file) => file.flush(),
            Inner::Beside { file, target } => {
                file.as_file().sync_all()?;
                file.persist(&target).map_err(|error| error.error)?;
                sync_folder(&target)
            }
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Inner::Beside { file, .. } => file.as_file_mut().write(bytes),
            Inner::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what is left in the buffer, and commits the file.
///
/// # Errors
/// As [`AtomicFile::commit`].
pub fn finish(out: BufWriter<AtomicFile>) -> io::Result<()> {
    out.into_inner().map_err(IntoInnerError::into_error)?.commit()
}

/// Writes `bytes` to `path` as an [`AtomicFile`].
///
/// # Errors
/// When they cannot be written; what stood there is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// As [`write`]; the file has `mode` afterwards, whether it is new or not.
///
/// # Errors
/// As there.
pub fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = AtomicFile::open(path, Some(mode))?;
    file.write_all(bytes)?;
    file.commit()
}

/// Whether `path` could be written now, as [`AtomicFile::create`] finds out. Leaves nothing behind.
///
/// # Errors
/// As there.
pub fn check(path: &Path) -> io::Result<()> {
    match find(path)? {
        // Opening a pipe waits for its reader, and tells it of an end.
        Target::Direct => Ok(()),
        Target::File(..) => AtomicFile::create(path).map(drop),
    }
}

/// Follows links to what stands at `path`.
fn find(path: &Path) -> io::Result<Target> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Target::File(path, None)),
            found => found?,
        };
        let kind = found.file_type();
        if kind.is_dir() {
            return Err(Errno::ISDIR.into());
        }
        if kind.is_symlink() {
            let folder = folder_of(&path).canonicalize()?;
            // A link of /proc/self/fd, where /dev/stdout leads, is an open file, and not the path that it shows.
            if folder.starts_with("/proc") {
                return Ok(Target::Direct);
            }
            path = folder.join(fs::read_link(&path)?);
        } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() || kind.is_socket() {
            return Ok(Target::Direct);
        } else {
            return Ok(Target::File(path, Some(found)));
        }
    }
    Err(Errno::LOOP.into())
}

/// A temporary file in the folder of `target` with `mode`; as the process makes files, where none is given.
pub(crate) fn with_mode(target: &Path, mode: Option<u32>) -> io::Result<NamedTempFile> {
    let Some(mode) = mode else { return beside(target, NEW_FILE) };
    // A process that opened it while it was open to all could read what is written afterwards.
    let file = beside(target, mode & 0o600)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// A temporary file in the folder of `target`.
fn beside(target: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut reason = None;
    // No part of the target's name: a longer one might exceed what the file system takes.
    let made = tempfile::Builder::new().prefix(".suf-").suffix(".tmp").make_in(folder_of(target), |path| {
        let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
        opened.inspect_err(|error| reason = error.raw_os_error())
    });
    // Without the temporary file's name, which the user does not know.
    made.map_err(|error| reason.map_or(error, io::Error::from_raw_os_error))
}

/// Makes a rename in the folder of `path` survive a loss of power.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        // Some file systems know no synchronisation of folders, and a folder may be written but not read. The file itself
        // is whole on the disk either way.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::PermissionDenied) => Ok(()),
        done => done,
    }
}

/// The folder that `path` stands in.
#[must_use]
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink, thread};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_whole_or_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.npy");
        write(&path, b"first").unwrap();
        let mut second = AtomicFile::create(&path).unwrap();
        second.reserve(1 << 16).unwrap();
        second.write_all(b"sec").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        drop(second);
        assert_eq!(
            (fs::read(&path).unwrap(), names(folder.path())),
            (b"first".to_vec(), vec!["y.npy".to_owned()])
        );
        let mut third = AtomicFile::create(&path).unwrap();
        third.reserve(1 << 16).unwrap();
        third.write_all(b"third").unwrap();
        third.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"third", "and no room that was set aside");
        assert_eq!(names(folder.path()), ["y.npy"]);
    }

    #[test]
    fn a_replaced_file_keeps_its_permissions_and_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link, chain) =
            (folder.path().join("data/y"), folder.path().join("link"), folder.path().join("chain"));
        fs::create_dir(folder.path().join("data")).unwrap();
        write(&path, b"1").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
        symlink("data/y", &link).unwrap();
        symlink("link", &chain).unwrap();
        write(&chain, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o646);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A link that leads nowhere yet.
        symlink("data/new", folder.path().join("dangling")).unwrap();
        write(&folder.path().join("dangling"), b"3").unwrap();
        assert_eq!(fs::read(folder.path().join("data/new")).unwrap(), b"3");
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(AtomicFile::create(&folder.path().join("loop")).is_err());
    }

    #[test]
    fn pipes_and_devices_are_written_directly() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        check(&pipe).unwrap();
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        write(&pipe, b"through the pipe").unwrap();
        assert_eq!(reader.join().unwrap(), "through the pipe");
        write(Path::new("/dev/null"), b"gone").unwrap();
        assert_eq!(write(Path::new("/dev/full"), b"full").unwrap_err().kind(), ErrorKind::StorageFull);
        // The way of /dev/stdout: an open file by its number.
        let (mut read, written) = io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&written);
        write(Path::new(&format!("/dev/fd/{number}")), b"to an open file").unwrap();
        drop(written);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "to an open file");
        assert_eq!(names(folder.path()), ["pipe"]);
    }

    #[test]
    fn what_cannot_be_written_is_found_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let missing = check(&folder.path().join("missing/y")).unwrap_err();
        assert_eq!(missing.to_string(), "No such file or directory (os error 2)");
        assert_eq!(check(folder.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        check(&folder.path().join("y")).unwrap();
        assert!(names(folder.path()).is_empty());
    }
}
