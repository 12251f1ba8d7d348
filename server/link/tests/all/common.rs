//! A throw-away authority and endpoints on loopback.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use suf_link::{Connection, Endpoint, Identity, LinkProfile, Pki};
use suf_wire::Role;
use tempfile::TempDir;

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn authority() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    Pki::create(folder.path(), &BTreeMap::new()).expect("an authority");
    folder
}

/// What stands in a certificate for `role`, for every purpose and a year.
pub(crate) fn params_of(role: Role) -> rcgen::CertificateParams {
    let mut params = rcgen::CertificateParams::new(vec![role.name().to_owned()]).expect("a name");
    let uri = format!("suf:role/{role}").try_into().expect("ASCII");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let now = SystemTime::now();
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + Duration::from_secs(365 * 86_400)).into();
    params
}

/// Writes `NAME.pem`, signed by the authority in `folder`, and `NAME.key`.
pub(crate) fn write_signed(
    folder: &Path,
    name: &str,
    params: &rcgen::CertificateParams,
    own: &rcgen::KeyPair,
) {
    let read = |file: &str| fs::read_to_string(folder.join(file)).expect("reads");
    let key = rcgen::KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), key).expect("an authority");
    let certificate = params.signed_by(own, &issuer).expect("signs");
    fs::write(folder.join(format!("{name}.pem")), certificate.pem()).expect("writes");
    write_private(&folder.join(format!("{name}.key")), own.serialize_pem().as_bytes());
}

/// Writes a file that its owner alone can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).expect("writes");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("changes the mode");
}

pub(crate) fn endpoint(folder: &TempDir, role: Role, profile: &LinkProfile, shaped: bool) -> Endpoint {
    let identity = Identity::load_from(folder.path(), role.name()).expect("an identity");
    Endpoint::bind(ANY_PORT, &identity, profile, shaped).expect("an endpoint")
}

/// Party 0 calls party 1.
pub(crate) struct Pair {
    pub(crate) folder: TempDir,
    pub(crate) caller: Endpoint,
    pub(crate) listener: Endpoint,
    pub(crate) calling: Connection,
    pub(crate) called: Connection,
}

pub(crate) async fn pair(profile: &LinkProfile, shaped: bool) -> Pair {
    let folder = authority();
    let caller = endpoint(&folder, Role::Party0, profile, shaped);
    let listener = endpoint(&folder, Role::Party1, profile, shaped);
    let addr = listener.local_addr().expect("a bound endpoint");
    let (calling, called) =
        tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
    let (calling, called) = (calling.expect("calls"), called.expect("is called"));
    Pair { folder, caller, listener, calling, called }
}
