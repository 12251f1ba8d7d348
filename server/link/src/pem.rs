//! Reading PEM: certificates, private keys, revocation lists and requests, and what is said of a file that holds something
//! else.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, CertificateSigningRequestDer, PrivateKeyDer,
};
use zeroize::Zeroizing;

use crate::error::LinkError;
use crate::revocation::decode;

/// Longest file of certificates, a key or a request, in bytes. A certificate of ours has 700 bytes, an RSA key of 8192 bits 6400.
const MOST_BYTES: u64 = 256 << 10;

/// Longest file of revocation lists, in bytes: some 100 000 entries.
const MOST_LIST_BYTES: u64 = 4 << 20;

/// U+FEFF in UTF-8. Some editors put it before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// U+FEFF in UTF-16, in both orders of bytes.
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// What is wanted from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
    List,
    Request,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
            Self::List => "revocation list",
            Self::Request => "certificate request",
        }
    }

    /// The `openssl` command that converts it from DER.
    fn openssl(self) -> &'static str {
        match self {
            Self::Certificate => "x509",
            Self::Key => "pkey",
            Self::List => "crl",
            Self::Request => "req",
        }
    }
}

/// All certificates of a PEM text, at least one.
///
/// # Errors
/// A sentence that says what the text holds instead, and what to do.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    all(text, Wanted::Certificate)
}

/// The first private key of a PEM text.
///
/// # Errors
/// As for [`certificates`]. The message holds nothing of the key.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key: PrivateKeyDer<'static> = all(text, Wanted::Key)?.swap_remove(0);
    // The label says how the key is encoded, and tools that write the wrong one exist.
    // What has none of the three encodings is refused where the key is used.
    let Ok(inside) = PrivateKeyDer::try_from(key.secret_der()) else { return Ok(key) };
    let (said, found) = (label(&key), label(&inside));
    if said == found {
        return Ok(key);
    }
    Err(format!(
        "is labelled `{said}`, but its content is that of `{found}`; mend its first and last line with \
         `sed -i 's/{said}-----/{found}-----/' KEY_FILE`"
    ))
}

/// All revocation lists of a PEM text, at least one.
///
/// # Errors
/// As for [`certificates`].
pub fn revocation_lists(text: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let lists = all(text, Wanted::List)?;
    lists.iter().try_for_each(|list| decode(list).map(|_| ()))?;
    Ok(lists)
}

/// The certificate request of a PEM text that holds no other.
///
/// # Errors
/// As for [`certificates`].
pub fn request(text: &[u8]) -> Result<CertificateSigningRequestDer<'static>, String> {
    // Older tools write another label.
    let text = String::from_utf8_lossy(text).replace(" NEW CERTIFICATE REQUEST-", " CERTIFICATE REQUEST-");
    let mut found = all(text.as_bytes(), Wanted::Request)?;
    if found.len() > 1 {
        return Err(format!("holds {} requests; sign them one by one", found.len()));
    }
    Ok(found.swap_remove(0))
}

/// [`certificates`] of a file.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LinkError> {
    certificates(&read(path, MOST_BYTES)?).map_err(|problem| wrong(path, problem))
}

/// [`private_key`] of a file.
pub(crate) fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, LinkError> {
    private_key(&read(path, MOST_BYTES)?).map_err(|problem| {
        // A command that mends the file names it.
        wrong(path, problem.replace("KEY_FILE", &path.display().to_string()))
    })
}

/// [`revocation_lists`] of a file.
pub(crate) fn read_revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, LinkError> {
    revocation_lists(&read(path, MOST_LIST_BYTES)?).map_err(|problem| wrong(path, problem))
}

/// [`request`] of a file.
pub(crate) fn read_request(path: &Path) -> Result<CertificateSigningRequestDer<'static>, LinkError> {
    request(&read(path, MOST_BYTES)?).map_err(|problem| wrong(path, problem))
}

/// The bytes of a file that holds at most `most`.
fn read(path: &Path, most: u64) -> Result<Zeroizing<Vec<u8>>, LinkError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let file = File::open(path).map_err(|error| unread(path, &error))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| unread(path, &error))?;
    if bytes.len() as u64 > most {
        return Err(wrong(path, format!("is longer than {most} bytes; is it the right file?")));
    }
    Ok(bytes)
}

pub(crate) fn unread(path: &Path, error: &io::Error) -> LinkError {
    let problem = match error.kind() {
        io::ErrorKind::NotFound => {
            "no such file; `suf pki init` makes an authority, `suf pki request` and `suf pki sign` a certificate"
                .into()
        }
        _ => format!("cannot be read: {error}"),
    };
    wrong(path, problem)
}

pub(crate) fn wrong(path: &Path, problem: impl Into<String>) -> LinkError {
    LinkError::Certificate { path: path.to_owned(), problem: problem.into() }
}

/// All sections of a text that are what is wanted, at least one.
fn all<T: PemObject>(text: &[u8], wanted: Wanted) -> Result<Vec<T>, String> {
    let name = wanted.name();
    if UTF16_MARKS.iter().any(|mark| text.starts_with(mark)) {
        return Err("is UTF-16 text; convert it with `iconv -f utf-16 -t ascii`".into());
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let labels = labels(text);
    if wanted == Wanted::Key && is_encrypted(text, &labels) {
        return Err(
            "is an encrypted private key, and a daemon cannot ask for the password. Decrypt it with \
                    `openssl pkey -in KEY_FILE -out NEW_FILE` and `chmod 600 NEW_FILE`"
                .into(),
        );
    }
    let found: Result<Vec<T>, _> = T::pem_slice_iter(text).collect();
    let found = found.map_err(|error| damaged(&error))?;
    if !found.is_empty() {
        return Ok(found);
    }
    let Some(label) = labels.first() else {
        return Err(match text {
            [] => "is empty".into(),
            [0x30, ..] => format!(
                "holds no PEM {name}, but looks like DER; convert it with `openssl {} -inform DER -in FILE -out NEW_FILE`",
                wanted.openssl()
            ),
            _ => format!("holds no PEM {name}: there is no line `-----BEGIN ...-----`"),
        });
    };
    let hint = match label.as_str() {
        "CERTIFICATE" => "a certificate stands there; are the files of certificate and key exchanged?",
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "a request stands there; `suf pki sign` makes a certificate of it"
        }
        "X509 CRL" => "a revocation list stands there",
        "PUBLIC KEY" => "a public key stands there",
        "OPENSSH PRIVATE KEY" => {
            "a key of OpenSSH stands there; convert it with `ssh-keygen -p -m PKCS8 -f FILE`"
        }
        "TRUSTED CERTIFICATE" => {
            "a certificate in OpenSSL's own form stands there; convert it with `openssl x509 -in FILE -out NEW_FILE`"
        }
        "PKCS7" | "CMS" => {
            "a bundle stands there; take the certificates out with `openssl pkcs7 -print_certs -in FILE -out NEW_FILE`"
        }
        label if label.ends_with("PRIVATE KEY") => {
            "a private key stands there; are the files of certificate and key exchanged?"
        }
        _ => "something else stands there",
    };
    Err(format!("holds no PEM {name}: {hint}"))
}

/// The labels of all sections, as they begin.
fn labels(text: &[u8]) -> Vec<String> {
    let lines = text.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines
        .filter_map(|line| {
            let label = line.strip_prefix(b"-----BEGIN ")?;
            let end = label.windows(5).position(|window| window == b"-----")?;
            Some(String::from_utf8_lossy(&label[..end]).into_owned())
        })
        .collect()
}

/// Whether the only keys are encrypted: by PKCS#8's own means, or by OpenSSL's older ones.
fn is_encrypted(text: &[u8], labels: &[String]) -> bool {
    let mut keys = labels.iter().filter(|label| label.ends_with("PRIVATE KEY"));
    let old = text
        .split(|byte| matches!(byte, b'\n' | b'\r'))
        .any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"));
    keys.next().is_some_and(|label| label == "ENCRYPTED PRIVATE KEY") || old
}

/// The label that a key's encoding has: PKCS#1, SEC1 or PKCS#8.
fn label(key: &PrivateKeyDer<'_>) -> &'static str {
    match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    }
}

/// The library's error, whose own text shows bytes as numbers.
fn damaged(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => {
            "is cut off: a line `-----BEGIN ...-----` has no line `-----END ...-----`".into()
        }
        pem::Error::IllegalSectionStart { .. } => {
            "is damaged: a line `-----BEGIN ...` does not end in `-----`".into()
        }
        pem::Error::Base64Decode(_) => {
            "is damaged: what stands between its first and last line is not base64".into()
        }
        other => format!("is no PEM: {other}"),
    }
}
