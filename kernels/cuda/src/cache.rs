//! Compiled kernels, kept in the user's folder.
//!
//! They work on keys, so nothing is loaded that another user could have written. Folder and file belong to the user, and
//! nobody else can write to them. Each file begins with a hash of its contents and its name, so that damage and mixed-up
//! files are noticed. Whatever does not pass is compiled again.

use std::{
    env, fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use rustix::{fs::OFlags, process::geteuid};

/// Sets the hashes of these files apart from all others.
const DOMAIN: &str = "suf 2026-11-30 compiled kernels";

/// Bytes of the hash at the start of a file.
const HASH_BYTES: usize = blake3::OUT_LEN;

/// Most bytes of a file that are read, many times what a gate's kernels have.
const MOST_BYTES: u64 = 64 << 20;

/// Permission bits of those who may write: the group, and everybody.
const WRITABLE: u32 = 0o022;

/// A folder of compiled kernels that nobody else can write to.
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's: `suf/kernels` in `$XDG_CACHE_HOME`, or in `~/.cache`. None, with a warning, where it cannot be used.
    pub(crate) fn of_user() -> Option<Self> {
        let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))?;
        match Self::open(&base) {
            Ok(cache) => Some(cache),
            Err(why) => {
                tracing::warn!(why, "compiled kernels are not kept; they are compiled again next time");
                None
            }
        }
    }

    /// The one in `base`, made if it is missing.
    fn open(base: &Path) -> Result<Self, String> {
        let folder = base.join("suf").join("kernels");
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        for own in [&base.join("suf"), &folder] {
            // The folder itself, not where a link leads.
            let found = fs::symlink_metadata(own).map_err(|error| format!("{}: {error}", own.display()))?;
            if !found.is_dir() {
                return Err(format!("{} is not a folder", own.display()));
            }
            is_ours(&found).map_err(|why| format!("the folder {} {why}", own.display()))?;
        }
        Ok(Self { folder })
    }

    /// The machine code called `name`, or what `compile` makes, which is kept.
    pub(crate) fn get<E>(
        &self,
        name: &str,
        compile: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        if let Some(code) = self.read(name) {
            return Ok(code);
        }
        // The dealer and the parties of one machine need the same kernels at the same time: one of them compiles.
        let _turn = self.turn(name);
        if let Some(code) = self.read(name) {
            return Ok(code);
        }
        let code = compile()?;
        if let Err(error) = self.write(name, &code) {
            let path = self.path(name);
            tracing::warn!(path = %path.display(), %error, "compiled kernels cannot be kept; they are compiled again next time");
        }
        Ok(code)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.cubin"))
    }

    /// What is kept under `name`; none, with a warning, if it is not to be trusted.
    fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path(name);
        match checked(&path, name) {
            Ok(code) => Some(code),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "kept kernels are not used; they are compiled again");
                None
            }
        }
    }

    /// Writes a file that other processes see whole or not at all.
    fn write(&self, name: &str, code: &[u8]) -> io::Result<()> {
        let draft = self.folder.join(format!("{name}.{}.tmp", process::id()));
        // What a process of this number left behind is not the one of now.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(hash(name, code).as_bytes())?;
        file.write_all(code)?;
        drop(file);
        fs::rename(&draft, self.path(name))
    }

    /// Waits for whoever makes `name` now. Without a file to lock, several may make the same.
    fn turn(&self, name: &str) -> Option<fs::File> {
        let lock = self.folder.join(format!("{name}.lock"));
        let file =
            fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(lock).ok()?;
        file.lock().ok()?;
        Some(file)
    }
}

/// The contents of the file at `path`, if they are whole, called `name` and nobody else's.
fn checked(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let refused = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let follow_no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let file = fs::OpenOptions::new().read(true).custom_flags(follow_no_link).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(refused("it is not a file"));
    }
    is_ours(&found).map_err(|why| refused(&format!("it {why}")))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let Some((of, code)) = bytes.split_first_chunk::<HASH_BYTES>() else {
        return Err(refused("it is cut short"));
    };
    if hash(name, code) != *of {
        return Err(refused("its contents are not what was written"));
    }
    Ok(code.to_vec())
}

fn hash(name: &str, code: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_derive_key(DOMAIN).update(name.as_bytes()).update(&[0]).update(code).finalize()
}

/// Whether a file or folder is this user's, and writable by nobody else.
fn is_ours(found: &fs::Metadata) -> Result<(), String> {
    let (owner, own) = (found.uid(), geteuid().as_raw());
    if owner != own {
        return Err(format!("belongs to user {owner}, not to {own}"));
    }
    if found.mode() & WRITABLE != 0 {
        return Err(format!("can be written by others (mode {:o})", found.mode() & 0o777));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        convert::Infallible,
        os::unix::fs::{PermissionsExt, chown, symlink},
    };

    use suf_skip::{Need, skip};

    use super::*;

    const CODE: &[u8] = b"machine code";

    /// A user that owns nothing here.
    const NOBODY: u32 = 65534;

    /// Asks for the code; whether it was compiled for that.
    fn is_compiled(cache: &Cache, name: &str) -> bool {
        let compiled = Cell::new(false);
        let code = cache.get(name, || {
            compiled.set(true);
            Ok::<_, Infallible>(CODE.to_vec())
        });
        assert_eq!(code, Ok(CODE.to_vec()));
        compiled.get()
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    #[test]
    fn kept_kernels_that_were_changed_are_compiled_again() {
        let base = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(base.path()).expect("it can be made");
        let path = cache.path("a");
        assert!(is_compiled(&cache, "a"));
        assert!(!is_compiled(&cache, "a"), "it was not kept");
        let whole = fs::read(&path).expect("it was kept");
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            fs::write(&path, changed).expect("ours");
            assert!(is_compiled(&cache, "a"), "byte {place}");
            fs::write(&path, &whole[..place]).expect("ours");
            assert!(is_compiled(&cache, "a"), "cut at {place}");
        }
        fs::copy(&path, cache.path("b")).expect("ours");
        assert!(is_compiled(&cache, "b"), "another gate's kernels");
        assert!(!is_compiled(&cache, "b"));
    }

    #[test]
    fn kept_kernels_that_others_could_have_written_are_not_used() {
        let base = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(base.path()).expect("it can be made");
        let path = cache.path("a");
        assert!(is_compiled(&cache, "a"));
        assert_eq!(fs::metadata(&path).expect("it was kept").mode() & 0o777, 0o600);
        for mode in [0o620, 0o602, 0o666] {
            set_mode(&path, mode);
            assert!(is_compiled(&cache, "a"), "a file of mode {mode:o}");
            assert!(!is_compiled(&cache, "a"), "it was not made anew");
        }
        fs::rename(&path, base.path().join("elsewhere")).expect("ours");
        symlink(base.path().join("elsewhere"), &path).expect("ours");
        assert!(is_compiled(&cache, "a"), "a link to a file");

        let refusal = |base: &Path| Cache::open(base).err().expect("it is refused");
        for folder in [base.path().join("suf"), base.path().join("suf/kernels")] {
            assert_eq!(fs::metadata(&folder).expect("ours").mode() & 0o777, 0o700);
            for mode in [0o770, 0o707] {
                set_mode(&folder, mode);
                let why = refusal(base.path());
                assert!(why.contains("can be written by others"), "mode {mode:o}: {why}");
            }
            set_mode(&folder, 0o755);
            assert!(Cache::open(base.path()).is_ok());
        }
        let links = tempfile::tempdir().expect("a folder");
        symlink(base.path().join("suf"), links.path().join("suf")).expect("ours");
        assert!(refusal(links.path()).contains("is not a folder"));

        assert!(is_compiled(&cache, "c"));
        let given = chown(cache.path("c"), Some(NOBODY), None);
        if given.is_err() {
            return skip(Need::Chown, "no file of another user was read: only root can give one away");
        }
        assert!(is_compiled(&cache, "c"), "a file of another user");
        chown(base.path().join("suf"), Some(NOBODY), None).expect("given");
        assert!(refusal(base.path()).contains("belongs to user"));
    }
}
