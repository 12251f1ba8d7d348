//! Authorities and what they take back: dates, purposes, revocation lists.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::{CertificateError, ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use suf_link::{Endpoint, Identity, LinkError, LinkProfile, Pki};
use suf_wire::{PeerMessage, Role};
use tempfile::TempDir;

use crate::common::{ANY_PORT, authority, endpoint, params_of, write_signed};

/// A TLS handshake in memory, of a caller that wants `role`: how it ended for the caller and for the listener.
fn handshake(
    caller: Arc<ClientConfig>,
    listener: Arc<ServerConfig>,
    role: Role,
) -> (Result<(), Error>, Result<(), Error>) {
    let name = ServerName::try_from(role.name()).expect("a name");
    let mut caller = ClientConnection::new(caller, name).expect("a caller");
    let mut listener = ServerConnection::new(listener).expect("a listener");
    let mut ends = (Ok(()), Ok(()));
    loop {
        let mut bytes = Vec::new();
        while caller.wants_write() {
            caller.write_tls(&mut bytes).expect("memory takes all");
        }
        let mut moved = !bytes.is_empty();
        let mut rest = &bytes[..];
        while !rest.is_empty() && ends.1.is_ok() {
            listener.read_tls(&mut rest).expect("memory gives all");
            ends.1 = listener.process_new_packets().map(|_| ());
        }
        let mut bytes = Vec::new();
        while listener.wants_write() {
            listener.write_tls(&mut bytes).expect("memory takes all");
        }
        moved |= !bytes.is_empty();
        let mut rest = &bytes[..];
        while !rest.is_empty() && ends.0.is_ok() {
            caller.read_tls(&mut rest).expect("memory gives all");
            ends.0 = caller.process_new_packets().map(|_| ());
        }
        if !moved {
            return ends;
        }
    }
}

fn identity(folder: &TempDir, name: &str) -> Identity {
    Identity::load_from(folder.path(), name).expect("an identity")
}

/// Whether the caller is admitted by the listener, and the other way round.
fn meet(caller: &Identity, listener: &Identity, role: Role) -> (Result<(), Error>, Result<(), Error>) {
    handshake(caller.grpc_client().expect("builds"), listener.grpc_server().expect("builds"), role)
}

fn revoke(folder: &TempDir, names: &[&str]) {
    let files: Vec<PathBuf> = names.iter().map(|name| folder.path().join(format!("{name}.pem"))).collect();
    Pki::open(folder.path()).expect("opens").revoke(&files).expect("revokes");
}

/// A certificate of an authority that is good for so many days, from a day of the past or the future on.
fn dated_authority(from_days: i64, to_days: i64) -> String {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("from {from_days} to {to_days}"));
    let day = |days: i64| {
        let distance = Duration::from_secs(days.unsigned_abs() * 86_400 + 600);
        if days < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
    };
    (params.not_before, params.not_after) = (day(from_days).into(), day(to_days).into());
    let key = rcgen::KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("signs").pem()
}

fn append(path: &Path, text: &str) {
    let before = fs::read_to_string(path).expect("reads");
    fs::write(path, before + text).expect("writes");
}

fn assert_says(error: &LinkError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[test]
fn authorities_that_are_not_in_date_are_left_out_beside_a_good_one() {
    let folder = authority();
    let ca = folder.path().join("ca.pem");
    append(&ca, &dated_authority(-400, -35));
    append(&ca, &dated_authority(30, 400));
    append(&ca, &dated_authority(-300, 5));
    let warnings = identity(&folder, "party0").warnings();
    for (name, words) in [
        ("from -400 to -35", "has expired on"),
        ("from 30 to 400", "is not valid yet"),
        ("from -300 to 5", "ends in 5 days"),
    ] {
        assert!(warnings.iter().any(|it| it.contains(name) && it.contains(words)), "{name}: {warnings:?}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");
}

#[test]
fn authorities_of_which_none_is_in_date_are_refused_with_their_dates() {
    let folder = authority();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, dated_authority(-400, -35) + &dated_authority(30, 400)).expect("writes");
    let error = Identity::load_from(folder.path(), "party0").expect_err("no authority");
    assert_says(
        &error,
        &["ca.pem", "from -400 to -35", "has expired on 20", "from 30 to 400", "not valid yet, but from 20"],
    );
}

#[test]
fn an_authority_that_was_taken_out_is_not_trusted_after_a_reload() {
    let (folder, other) = (authority(), authority());
    let ca = folder.path().join("ca.pem");
    let alone = fs::read_to_string(&ca).expect("reads");
    append(&ca, &fs::read_to_string(other.path().join("ca.pem")).expect("reads"));
    let party = identity(&folder, "party0");
    append(&other.path().join("ca.pem"), &alone);
    let client = identity(&other, "client");
    assert_eq!(meet(&client, &party, Role::Party0), (Ok(()), Ok(())));
    fs::write(&ca, alone).expect("writes");
    assert_eq!(meet(&client, &party, Role::Party0), (Ok(()), Ok(())), "before the reload");
    party.reload().expect("reads anew");
    let refused = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
    assert_eq!(meet(&client, &party, Role::Party0).1, refused);
    let certificate = suf_link::pem::certificates(&fs::read(other.path().join("client.pem")).expect("reads"));
    let told = party.role_of_caller(&certificate.expect("a certificate")[0]).expect_err("not trusted");
    assert!(told.contains("no authority in date has signed it"), "{told}");
}

#[test]
fn certificates_are_refused_for_what_they_are_not_for() {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, CodeSigning, ServerAuth};
    let folder = authority();
    let (good, party) = (identity(&folder, "client"), identity(&folder, "party0"));
    let refused = Err(Error::InvalidCertificate(CertificateError::InvalidPurpose));
    let is_refused = |end: &Result<(), Error>| {
        let purpose =
            matches!(end, Err(Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. })));
        purpose || *end == refused
    };
    for (role, usages, wanted) in [
        (Role::Client, vec![], "clientAuth"),
        (Role::Client, vec![ServerAuth], "clientAuth"),
        (Role::Client, vec![CodeSigning], "clientAuth"),
        (Role::Dealer, vec![ClientAuth], "serverAuth"),
        (Role::Party0, vec![ClientAuth], "serverAuth"),
        (Role::Party0, vec![ServerAuth], "clientAuth"),
    ] {
        let mut params = params_of(role);
        params.extended_key_usages = usages.clone();
        let key = rcgen::KeyPair::generate().expect("a key");
        write_signed(folder.path(), "other", &params, &key);
        // Whoever starts with it is told.
        let error = Identity::load_from(folder.path(), "other").expect_err("not for its role");
        assert_says(&error, &["other.pem", "extended key usage", wanted, "suf pki sign"]);
        // Whoever shows it all the same, without a look at it, is refused.
        let chain = suf_link::pem::certificates(&fs::read(folder.path().join("other.pem")).expect("reads"));
        let shown =
            (chain.expect("a certificate"), rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialized_der()));
        if wanted == "clientAuth" {
            let mut caller = (*good.grpc_client().expect("builds")).clone();
            caller.client_auth_cert_resolver = resolver(&shown);
            let (_, called) = handshake(caller.into(), party.grpc_server().expect("builds"), Role::Party0);
            assert!(is_refused(&called), "{role} with {usages:?}: {called:?}");
        } else {
            let mut listener = (*party.grpc_server().expect("builds")).clone();
            listener.cert_resolver = resolver(&shown);
            let (calling, _) = handshake(good.grpc_client().expect("builds"), listener.into(), role);
            assert!(is_refused(&calling), "{role} with {usages:?}: {calling:?}");
        }
    }
}

/// Shows a certificate, whatever it says.
fn resolver(
    (chain, key): &(Vec<rustls_pki_types::CertificateDer<'static>>, rustls_pki_types::PrivatePkcs8KeyDer<'_>),
) -> Arc<rustls::sign::SingleCertAndKey> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = rustls_pki_types::PrivateKeyDer::from(key.clone_key());
    let key = rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider).expect("fit");
    Arc::new(key.into())
}

#[test]
fn a_certificate_that_pki_makes_is_for_what_its_role_needs_alone() {
    let folder = authority();
    for (role, server, client) in [
        (Role::Dealer, true, false),
        (Role::Party0, true, true),
        (Role::Party1, true, true),
        (Role::Operator, false, true),
        (Role::Client, false, true),
        (Role::Observer, false, true),
        (Role::Model, false, true),
    ] {
        let text = fs::read(folder.path().join(format!("{role}.pem"))).expect("reads");
        let certificate = suf_link::pem::certificates(&text).expect("a certificate").swap_remove(0);
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).expect("parses");
        let usage = parsed.extended_key_usage().expect("parses").expect("is there").value;
        assert_eq!((usage.server_auth, usage.client_auth, usage.any), (server, client, false), "{role}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_in_both_directions_after_a_reload() {
    let folder = authority();
    let [caller, listener] = ["party0", "party1"].map(|name| identity(&folder, name));
    let third = identity(&folder, "client");
    assert_eq!(meet(&caller, &listener, Role::Party1), (Ok(()), Ok(())));
    revoke(&folder, &["party0"]);
    assert_eq!(meet(&caller, &listener, Role::Party1), (Ok(()), Ok(())), "before the reload");
    listener.reload().expect("reads anew");
    let revoked = Err(Error::InvalidCertificate(CertificateError::Revoked));
    assert_eq!(meet(&caller, &listener, Role::Party1).1, revoked, "as a caller");
    assert_eq!(meet(&listener, &caller, Role::Party0).0, revoked, "as a listener");
    assert_eq!(meet(&third, &listener, Role::Party1), (Ok(()), Ok(())), "another's is not touched");
    // Who has the list at the start refuses as well, and nobody starts with a revoked certificate.
    assert_eq!(meet(&caller, &identity(&folder, "party1"), Role::Party1).1, revoked);
    let error = Identity::load_from(folder.path(), "party0").expect_err("revoked");
    assert_says(&error, &["party0.pem", "was revoked on 20", "crl.pem", "suf pki sign"]);
    // A process whose own certificate is revoked takes the list all the same.
    caller.reload().expect("reads anew");
    assert_eq!(meet(&caller, &caller, Role::Party0).0, revoked);
}

#[tokio::test]
async fn connections_of_a_revoked_certificate_are_closed_by_a_reload() {
    let folder = authority();
    let profile = LinkProfile { lanes: 2, ..LinkProfile::built_in("loopback").expect("a profile") };
    let own = identity(&folder, "party1");
    let listener = Endpoint::bind(ANY_PORT, &own, &profile, false).expect("binds");
    let caller = endpoint(&folder, Role::Party0, &profile, false);
    let addr = listener.local_addr().expect("bound");
    let (calling, called) =
        tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
    let (calling, called) = (calling.expect("calls"), called.expect("is called"));
    revoke(&folder, &["observer"]);
    own.reload().expect("reads anew");
    // Another's certificate: the connection works.
    let mut here = calling.open::<PeerMessage>().await.expect("opens");
    let there = async {
        let mut there = called.accept::<PeerMessage>().await.expect("accepts");
        there.greet(Role::Party1, "listener").await
    };
    let (here, there) = tokio::join!(here.greet(Role::Party0, "caller"), there);
    here.and(there).expect("the connection works");

    revoke(&folder, &["party0"]);
    own.reload().expect("reads anew");
    called.closed().await;
    let told = calling.closed().await;
    assert!(told.to_string().contains("the certificate for party0 was revoked on"), "{told}");
    let (calling, called) =
        tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
    for end in [calling.map(|_| ()), called.map(|_| ())] {
        assert!(matches!(end, Err(LinkError::Untrusted { .. })), "{end:?}");
    }
}

#[test]
fn a_revocation_list_that_is_wrong_is_refused_and_nothing_changes() {
    let (folder, other) = (authority(), authority());
    let crl = folder.path().join("crl.pem");
    let party = identity(&folder, "party1");
    let refused = |words: &[&str]| {
        let error = Identity::load_from(folder.path(), "party1").expect_err("a wrong list");
        assert_says(&error, words);
        assert_says(&party.reload().expect_err("a wrong list"), words);
    };
    revoke(&other, &["client"]);
    fs::copy(other.path().join("crl.pem"), &crl).expect("copies");
    refused(&["crl.pem", "that no authority in", "ca.pem has signed"]);
    fs::copy(folder.path().join("party0.pem"), &crl).expect("copies");
    refused(&["crl.pem", "holds no PEM revocation list", "a certificate stands there"]);
    fs::write(&crl, "").expect("writes");
    refused(&["crl.pem", "is empty"]);

    fs::remove_file(&crl).expect("it is there");
    revoke(&folder, &["client"]);
    let first = fs::read_to_string(&crl).expect("reads");
    revoke(&folder, &["observer"]);
    let second = fs::read_to_string(&crl).expect("reads");
    fs::write(&crl, first.clone() + &second).expect("writes");
    refused(&["crl.pem", "two lists of one authority"]);
    // Six bits of the signature, which stands last.
    let last = second.lines().rev().find(|line| !line.starts_with('-')).expect("a body");
    let altered = if last.starts_with('A') { "B" } else { "A" };
    let text = second.replace(last, &format!("{altered}{}", &last[1..]));
    assert_ne!(text, second);
    fs::write(&crl, &text).expect("writes");
    assert!(party.reload().is_err(), "an altered list");

    fs::write(&crl, &second).expect("writes");
    party.reload().expect("the good list");
    let revoked = Err(Error::InvalidCertificate(CertificateError::Revoked));
    // An older list would bring the observer back, and so would none.
    fs::write(&crl, first).expect("writes");
    assert_says(&party.reload().expect_err("older"), &["number 1, older than number 2"]);
    fs::remove_file(&crl).expect("it is there");
    assert_says(&party.reload().expect_err("gone"), &["lacks the revocation list"]);
    let observer = Identity::load_from(folder.path(), "observer").expect("no list, no revocation");
    assert_eq!(meet(&observer, &party, Role::Party1).1, revoked, "the list in use stays");
}

#[test]
fn a_revocation_list_out_of_date_stays_in_force_with_a_warning() {
    let folder = authority();
    let pki = Pki::open(folder.path()).expect("opens");
    pki.revoke(&[folder.path().join("client.pem")]).expect("revokes");
    let client = fs::read(folder.path().join("client.pem")).expect("reads");
    let client = suf_link::pem::certificates(&client).expect("a certificate").swap_remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&client).expect("parses");
    let key = fs::read_to_string(folder.path().join("ca.key")).expect("reads");
    let ca = fs::read_to_string(folder.path().join("ca.pem")).expect("reads");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, rcgen::KeyPair::from_pem(&key).expect("a key"));
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2024, 6, 1),
        crl_number: rcgen::SerialNumber::from(7),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from_slice(parsed.raw_serial()),
            revocation_time: rcgen::date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer.expect("an authority")).expect("signs").pem().expect("writes");
    fs::write(folder.path().join("crl.pem"), list).expect("writes");
    let party = identity(&folder, "party1");
    let warnings = party.warnings();
    assert!(warnings.iter().any(|it| it.contains("crl.pem") && it.contains("2024-06-01")), "{warnings:?}");
    let told = party.role_of_caller(&client).expect_err("revoked");
    assert!(told.contains("was revoked on 2024-01-01"), "{told}");

    // Renewed without a certificate, it keeps what it says.
    assert_eq!(pki.revoke(&[]).expect("renews"), []);
    party.reload().expect("reads anew");
    assert_eq!(party.warnings(), Vec::<String>::new());
    assert!(party.role_of_caller(&client).expect_err("revoked").contains("was revoked on 2024-01-01"));
}

#[test]
fn each_of_two_authorities_of_one_name_has_its_own_list() {
    let folders = [authority(), authority()];
    for folder in &folders {
        // As authorities were called when all had one name.
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(rcgen::DnType::CommonName, "suf authority");
        let key = rcgen::KeyPair::generate().expect("a key");
        fs::write(folder.path().join("ca.pem"), params.self_signed(&key).expect("signs").pem())
            .expect("writes");
        fs::write(folder.path().join("ca.key"), key.serialize_pem()).expect("writes");
        for role in Role::ALL {
            let own = rcgen::KeyPair::generate().expect("a key");
            write_signed(folder.path(), role.name(), &params_of(role), &own);
        }
    }
    let [first, second] = &folders;
    revoke(first, &["client"]);
    // Both hosts trust both, in one file each.
    let [one, two] =
        folders.each_ref().map(|folder| fs::read_to_string(folder.path().join("ca.pem")).expect("reads"));
    fs::copy(first.path().join("crl.pem"), second.path().join("crl.pem")).expect("copies");
    for folder in &folders {
        fs::write(folder.path().join("ca.pem"), one.clone() + &two).expect("writes");
    }
    let listeners = folders.each_ref().map(|folder| identity(folder, "party1"));
    let revoked = fs::read(first.path().join("client.pem")).expect("reads");
    let revoked = suf_link::pem::certificates(&revoked).expect("a certificate").swap_remove(0);
    for listener in &listeners {
        assert_eq!(meet(&identity(second, "client"), listener, Role::Party1), (Ok(()), Ok(())));
        assert_eq!(meet(&identity(first, "observer"), listener, Role::Party1), (Ok(()), Ok(())));
        assert!(listener.role_of_caller(&revoked).expect_err("revoked").contains("was revoked"));
    }
}
