//! Who is admitted: certificates, roles, versions, and files that are not what they should be.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{ANY_PORT, authority, endpoint, params_of, write_signed};
use suf_link::{Endpoint, Identity, LinkError, LinkProfile, Pki, role_of};
use suf_wire::{Fault, PeerMessage, Role};
use tempfile::TempDir;

fn profile() -> LinkProfile {
    LinkProfile { lanes: 1, ..LinkProfile::built_in("loopback").expect("a built-in profile") }
}

/// `caller`'s attempt on a listener that is party 1 and admits party 0; both ends' results.
async fn attempt(
    caller: &Endpoint,
    listener: &Endpoint,
    name: &str,
    expected: Role,
) -> (Result<(), LinkError>, Result<(), LinkError>) {
    let addr = listener.local_addr().expect("bound");
    let (calling, called) =
        tokio::join!(caller.connect(addr, name, expected), listener.accept(&[Role::Party0]));
    (calling.map(|_| ()), called.map(|_| ()))
}

#[tokio::test]
async fn each_role_is_admitted_only_where_it_belongs() {
    let folder = authority();
    let listener = endpoint(&folder, Role::Party1, &profile(), false);
    for role in Role::ALL {
        let caller = endpoint(&folder, role, &profile(), false);
        let (calling, called) = attempt(&caller, &listener, "party1", Role::Party1).await;
        if role == Role::Party0 {
            calling.expect("party 0 may call party 1");
            called.expect("party 0 may call party 1");
            continue;
        }
        let error = called.expect_err("not admitted");
        if role == Role::Dealer {
            // Its certificate is not for calling at all.
            assert!(matches!(error, LinkError::Untrusted { .. }), "{error:?}");
            continue;
        }
        assert!(matches!(&error, LinkError::Role { found, .. } if found == role.name()), "{error:?}");
        assert_eq!(error.fault(), Fault::Config);
        let told = calling.expect_err("not admitted");
        assert!(told.to_string().contains(&format!("your certificate says {role}")), "{told}");
    }
}

#[tokio::test]
async fn a_listener_of_another_role_is_not_talked_to() {
    let folder = authority();
    let caller = endpoint(&folder, Role::Party0, &profile(), false);
    let dealer = endpoint(&folder, Role::Dealer, &profile(), false);
    // Its name is wrong already.
    let (calling, called) = attempt(&caller, &dealer, "party1", Role::Party1).await;
    let error = calling.expect_err("the dealer is not party 1");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error:?}");
    called.expect_err("the caller hung up");
    // Its name is right, its role is not.
    let (calling, _called) = attempt(&caller, &dealer, "dealer", Role::Party1).await;
    let error = calling.expect_err("the dealer is not party 1");
    assert!(matches!(&error, LinkError::Role { found, .. } if found == "dealer"), "{error:?}");
}

#[tokio::test]
async fn another_authority_convinces_nobody() {
    let (ours, theirs) = (authority(), authority());
    let listener = endpoint(&ours, Role::Party1, &profile(), false);
    let stranger = endpoint(&theirs, Role::Party0, &profile(), false);
    let (calling, called) = attempt(&stranger, &listener, "party1", Role::Party1).await;
    let error = calling.expect_err("unknown authority");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error:?}");
    called.expect_err("unknown authority");

    // A caller that trusts our authority, but shows a certificate of its own.
    fs::copy(theirs.path().join("ca.pem"), theirs.path().join("own-ca.pem")).expect("copies");
    let both = [theirs.path().join("ca.pem"), ours.path().join("ca.pem")]
        .map(|path| fs::read_to_string(path).expect("reads"));
    fs::write(theirs.path().join("ca.pem"), both.concat()).expect("writes");
    let stranger = endpoint(&theirs, Role::Party0, &profile(), false);
    let (calling, called) = attempt(&stranger, &listener, "party1", Role::Party1).await;
    let error = calling.expect_err("refused");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error:?}");
    let error = called.expect_err("refused");
    assert!(matches!(error, LinkError::Untrusted { .. }), "{error:?}");
}

#[tokio::test]
async fn a_name_that_the_certificate_lacks_is_refused() {
    let folder = TempDir::new().expect("a folder");
    let hosts = BTreeMap::from([(Role::Party1, vec!["b.example".to_owned(), "10.1.2.3".to_owned()])]);
    Pki::create(folder.path(), &hosts).expect("an authority");
    let caller = endpoint(&folder, Role::Party0, &profile(), false);
    let listener = endpoint(&folder, Role::Party1, &profile(), false);
    for name in ["b.example", "10.1.2.3", "party1"] {
        let (calling, called) = attempt(&caller, &listener, name, Role::Party1).await;
        calling.expect(name);
        called.expect(name);
    }
    let (calling, _) = attempt(&caller, &listener, "localhost", Role::Party1).await;
    assert!(matches!(calling, Err(LinkError::Untrusted { .. })), "{calling:?}");
}

#[tokio::test]
async fn a_greeting_with_another_role_is_refused() {
    let pair = crate::common::pair(&profile(), false).await;
    let mut calling = pair.calling.open::<PeerMessage>().await.expect("opens");
    let called = async {
        let mut called = pair.called.accept::<PeerMessage>().await.expect("accepts");
        called.greet(Role::Party1, "listener").await
    };
    let (_, called) = tokio::join!(calling.greet(Role::Dealer, "caller"), called);
    assert!(matches!(called, Err(LinkError::Role { .. })), "{called:?}");
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let folder = authority();
    let caller = endpoint(&folder, Role::Party0, &profile(), false);
    let silent = std::net::UdpSocket::bind(ANY_PORT).expect("binds");
    let addr = silent.local_addr().expect("bound");
    let error = caller.connect(addr, "party1", Role::Party1).await.expect_err("nobody answers");
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error:?}");
}

#[test]
fn files_that_are_wrong_are_named() {
    let folder = authority();
    let path = |name: &str| folder.path().join(name);
    let load = |ca: &str, certificate: &str, key: &str| {
        Identity::load(&path(ca), &path(certificate), &path(key)).expect_err("a wrong file")
    };
    let assert_says = |error: LinkError, file: &str, words: &str| {
        assert_eq!(error.fault(), Fault::Config);
        let text = error.to_string();
        assert!(text.contains(file) && text.contains(words), "{text}");
    };
    assert_says(load("ca.pem", "absent.pem", "party0.key"), "absent.pem", "no such file");
    assert_says(load("ca.pem", "party0.key", "party0.key"), "party0.key", "holds no PEM certificate");
    assert_says(load("ca.pem", "party0.pem", "party1.key"), "party1.key", "is not the key of");
    assert_says(load("ca.pem", "party0.pem", "party0.pem"), "party0.pem", "can be read by others");
    assert_says(load("ca.pem", "ca.pem", "ca.key"), "ca.pem", "carries no role");
    assert_says(
        load("party1.pem", "party0.pem", "party0.key"),
        "party0.pem",
        "not accepted by the authority",
    );

    fs::set_permissions(path("party0.key"), fs::Permissions::from_mode(0o640)).expect("changes the mode");
    assert_says(load("ca.pem", "party0.pem", "party0.key"), "party0.key", "chmod 600");
}

#[test]
fn an_authority_is_never_overwritten_and_can_issue_more() {
    let folder = authority();
    let error = Pki::create(folder.path(), &BTreeMap::new()).expect_err("exists");
    assert!(error.to_string().contains("exists already"), "{error}");

    let pki = Pki::open(folder.path()).expect("opens");
    pki.issue(Role::Client, "second-client", &[]).expect("issues");
    let identity = Identity::load_from(folder.path(), "second-client").expect("loads");
    assert_eq!(identity.role(), Role::Client);
    assert!((364..=365).contains(&identity.days_left()), "{}", identity.days_left());
    let certificate = folder.path().join("second-client.pem");
    identity.expect_role(Role::Client, &certificate).expect("is a client");
    let error = identity.expect_role(Role::Party0, &certificate).expect_err("is no party");
    assert!(error.to_string().contains("is a certificate for client"), "{error}");
    for role in Role::ALL {
        let key = folder.path().join(format!("{role}.key"));
        let mode = fs::metadata(key).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_certificate_out_of_date_is_refused() {
    let folder = authority();
    let made = |name: &str, from: i32, to: i32| {
        let ca = fs::read_to_string(folder.path().join("ca.pem")).expect("reads");
        let key = fs::read_to_string(folder.path().join("ca.key")).expect("reads");
        let key = rcgen::KeyPair::from_pem(&key).expect("a key");
        let issuer = rcgen::Issuer::from_ca_cert_pem(&ca, key).expect("an authority");
        let mut params = rcgen::CertificateParams::default();
        let uri = "suf:role/party0".try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let own = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&own, &issuer).expect("signs");
        assert_eq!(role_of(certificate.der()), Ok(Role::Party0));
        fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).expect("writes");
        let path = folder.path().join(format!("{name}.key"));
        fs::write(&path, own.serialize_pem()).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changes the mode");
        Identity::load_from(folder.path(), name).expect_err("out of date").to_string()
    };
    assert!(made("old", 2020, 2021).contains("has expired"));
    assert!(made("early", 2090, 2091).contains("not valid yet"));
}

/// A certificate for `role` in `folder`, with the key of `key_of` or one of its own, good for so many days.
fn issue(folder: &TempDir, name: &str, role: Role, key_of: Option<&str>, days: u64) {
    let own = match key_of {
        Some(other) => {
            let key = fs::read_to_string(folder.path().join(format!("{other}.key"))).expect("reads");
            rcgen::KeyPair::from_pem(&key).expect("a key")
        }
        None => rcgen::KeyPair::generate().expect("a key"),
    };
    let mut params = params_of(role);
    let now = std::time::SystemTime::now();
    params.not_after = (now + std::time::Duration::from_secs(days * 86_400 + 3600)).into();
    write_signed(folder.path(), name, &params, &own);
}

#[tokio::test]
async fn a_key_shared_by_two_roles_is_refused_by_both() {
    let folder = authority();
    issue(&folder, "party0", Role::Party0, Some("party1"), 365);
    let caller = endpoint(&folder, Role::Party0, &profile(), false);
    let listener = endpoint(&folder, Role::Party1, &profile(), false);
    let (calling, called) = attempt(&caller, &listener, "party1", Role::Party1).await;
    for error in [calling.expect_err("the same key"), called.expect_err("the same key")] {
        assert_eq!(error.fault(), Fault::Config, "{error}");
        assert!(error.to_string().contains("private key of ours"), "{error}");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let folder = authority();
    let identity = Identity::load_from(folder.path(), "party1").expect("an identity");
    assert!(identity.warnings().is_empty(), "{:?}", identity.warnings());
    let before = identity.expires_unix_s();
    let listener = Endpoint::bind(ANY_PORT, &identity, &profile(), false).expect("an endpoint");
    let caller = endpoint(&folder, Role::Party0, &profile(), false);
    let addr = listener.local_addr().expect("bound");
    let (calling, called) =
        tokio::join!(caller.connect(addr, "party1", Role::Party1), listener.accept(&[Role::Party0]));
    let (old_calling, old_called) = (calling.expect("calls"), called.expect("is called"));

    // What does not fit is not taken.
    fs::copy(folder.path().join("party0.pem"), folder.path().join("party1.pem")).expect("copies");
    identity.reload().expect_err("another's certificate");
    assert_eq!(identity.expires_unix_s(), before);

    issue(&folder, "party1", Role::Party1, None, 3);
    identity.reload().expect("a new certificate");
    assert!(identity.expires_unix_s() < before);
    let warnings = identity.warnings();
    assert!(warnings.iter().any(|it| it.contains("party1.pem ends in 3 days")), "{warnings:?}");

    let (calling, called) = attempt(&caller, &listener, "party1", Role::Party1).await;
    calling.expect("the new certificate is good");
    called.expect("the new certificate is good");
    assert!(old_calling.ended().is_none() && old_called.ended().is_none(), "connections go on");
    let mut stream = old_calling.open::<PeerMessage>().await.expect("opens");
    let answer = async {
        let mut there = old_called.accept::<PeerMessage>().await.expect("accepts");
        there.greet(Role::Party1, "listener").await
    };
    let (here, there) = tokio::join!(stream.greet(Role::Party0, "caller"), answer);
    here.expect("the old connection works");
    there.expect("the old connection works");
}

#[test]
fn grpc_settings_demand_certificates_and_tls_1_3() {
    let folder = authority();
    let identity = Identity::load_from(folder.path(), "party0").expect("an identity");
    let (server, client) = (identity.grpc_server().expect("builds"), identity.grpc_client().expect("builds"));
    assert_eq!(
        (&server.alpn_protocols, &client.alpn_protocols),
        (&vec![b"h2".to_vec()], &vec![b"h2".to_vec()])
    );
    assert_eq!(server.max_early_data_size, 0);
    assert!(!client.enable_early_data);
    assert!(client.client_auth_cert_resolver.has_certs());
}
