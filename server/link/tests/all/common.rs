//! A throw-away authority and endpoints on loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use suf_link::{Connection, Endpoint, Identity, LinkProfile, Pki};
use suf_wire::Role;
use tempfile::TempDir;

pub(crate) const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn authority() -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    Pki::create(folder.path(), &BTreeMap::new()).expect("an authority");
    folder
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
