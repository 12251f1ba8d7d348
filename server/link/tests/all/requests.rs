//! Requests and what is signed of them; hosts in certificates; keys in files of every kind.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use suf_link::{Identity, LinkError, Pki, Request, pem};
use suf_wire::Role;
use tempfile::TempDir;

use crate::common::{authority, params_of, write_private};

fn entries(folder: &std::path::Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_key_made_on_its_host_gets_a_certificate_by_its_request() {
    let (host, signer) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let pki = Pki::create_authority(signer.path()).expect("an authority");
    assert_eq!(entries(signer.path()), ["ca.key", "ca.pem"]);
    let hosts = ["party0.lan".to_owned(), "10.0.0.1".to_owned()];
    let fingerprint = Request::make(host.path(), Role::Party0, "party0", &hosts).expect("a request");
    assert_eq!(entries(host.path()), ["party0.csr", "party0.key"]);
    let mode = fs::metadata(host.path().join("party0.key")).expect("a key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let request = Request::read(&host.path().join("party0.csr")).expect("a request");
    assert_eq!(request.role(), Some(Role::Party0));
    assert_eq!(request.hosts(), hosts);
    assert_eq!(request.fingerprint(), fingerprint);
    let certificate = host.path().join("party0.pem");
    pki.sign(&request, Role::Party0, request.hosts(), &certificate).expect("signs");
    fs::copy(signer.path().join("ca.pem"), host.path().join("ca.pem")).expect("copies");
    let identity = Identity::load_from(host.path(), "party0").expect("an identity");
    assert_eq!(identity.role(), Role::Party0);

    // A second request would leave the first one's certificate without its key.
    let error = Request::make(host.path(), Role::Party0, "party0", &[]).expect_err("exists");
    assert!(error.to_string().contains("exists already"), "{error}");
    let error = pki.sign(&request, Role::Party0, &[], &certificate).expect_err("exists");
    assert!(error.to_string().contains("exists already"), "{error}");
}

#[test]
fn no_other_role_is_signed_than_the_signer_names_and_the_request_asks_for() {
    let folder = authority();
    let pki = Pki::open(folder.path()).expect("opens");
    let host = TempDir::new().expect("a folder");
    Request::make(host.path(), Role::Client, "mine", &[]).expect("a request");
    let request = Request::read(&host.path().join("mine.csr")).expect("a request");
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Client) {
        let out = host.path().join("mine.pem");
        let error = pki.sign(&request, role, &[], &out).expect_err("another role").to_string();
        assert!(
            error.contains("asks for the role client") && error.contains("nothing was signed"),
            "{error}"
        );
        assert!(!out.exists());
    }
    // What the request says of purposes and authorities has no effect.
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = params_of(Role::Client);
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    let text = params.serialize_request(&key).expect("a request").pem().expect("writes");
    fs::write(host.path().join("greedy.csr"), text).expect("writes");
    let request = Request::read(&host.path().join("greedy.csr")).expect("a request");
    let out = host.path().join("greedy.pem");
    pki.sign(&request, Role::Client, &[], &out).expect("signs");
    let certificate =
        pem::certificates(&fs::read(&out).expect("reads")).expect("a certificate").swap_remove(0);
    let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).expect("parses");
    let usage = parsed.key_usage().expect("parses").expect("is there").value;
    assert!(usage.digital_signature() && !usage.key_cert_sign(), "{usage:?}");
    let usage = parsed.extended_key_usage().expect("parses").expect("is there").value;
    assert!(usage.client_auth && !usage.server_auth, "{usage:?}");
}

#[test]
fn a_request_that_was_altered_or_asks_for_too_much_is_refused() {
    let host = TempDir::new().expect("a folder");
    Request::make(host.path(), Role::Client, "mine", &[]).expect("a request");
    let good = pem::request(&fs::read(host.path().join("mine.csr")).expect("reads")).expect("a request");
    let encoded = |der: &[u8]| ::pem::encode(&::pem::Pem::new("CERTIFICATE REQUEST", der));
    // A header of 4 bytes, then what is signed: a header of 3 bytes, and as many as its last says.
    let signed = 4..4 + 3 + usize::from(good[6]);
    let asks = |request: &Request| (request.role(), request.hosts().to_vec(), request.fingerprint());
    let whole = asks(&Request::parse(encoded(&good).as_bytes()).expect("as it was made"));
    for at in 0..good.len() {
        let mut der = good.to_vec();
        der[at] ^= 1;
        // Some bytes of the name of the signature's algorithm have no effect.
        if let Ok(taken) = Request::parse(encoded(&der).as_bytes()) {
            assert!(!signed.contains(&at), "byte {at} of {}", good.len());
            assert_eq!(asks(&taken), whole, "byte {at} of {}", good.len());
        }
    }
    let mut long = good.to_vec();
    long.push(0);
    assert!(Request::parse(encoded(&long).as_bytes()).expect_err("long").contains("behind it"));

    let key = rcgen::KeyPair::generate().expect("a key");
    let asking = |change: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = params_of(Role::Client);
        change(&mut params);
        let text = params.serialize_request(&key).expect("a request").pem().expect("writes");
        Request::parse(text.as_bytes()).expect_err("too much")
    };
    let told = asking(&|params| params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert!(told.contains("become an authority"), "{told}");
    let uri = |text: &str| rcgen::SanType::URI(text.try_into().expect("ASCII"));
    let told = asking(&|params| params.subject_alt_names.push(uri("suf:role/dealer")));
    assert!(told.contains("more than one role"), "{told}");
    let told = asking(&|params| params.subject_alt_names.push(uri("https://example.org")));
    assert!(told.contains("https://example.org"), "{told}");
    let told = asking(&|params| {
        params.subject_alt_names.push(rcgen::SanType::Rfc822Name("a@example.org".try_into().expect("ASCII")));
    });
    assert!(told.contains("another kind"), "{told}");

    // Nothing long is read at all.
    let path = host.path().join("long.csr");
    fs::write(&path, vec![b'A'; 1 << 20]).expect("writes");
    let error = Request::read(&path).expect_err("long").to_string();
    assert!(error.contains("is longer than"), "{error}");
    let error = Request::read(&host.path().join("mine.key")).expect_err("a key").to_string();
    assert!(error.contains("holds no PEM certificate request: a private key stands there"), "{error}");
}

#[test]
fn what_is_no_host_is_refused_before_anything_is_written() {
    for (host, words) in [
        ("", "is empty"),
        ("10.0.0.1:7101", "has a port"),
        ("dealer.lan:7000", "has a port"),
        ("[::1]", "brackets"),
        ("[::1]:7000", "brackets"),
        ("https://dealer.lan", "is a URL"),
        ("two words", "neither a DNS name nor an IP address"),
        ("10.0.0.256", "neither a DNS name nor an IP address"),
        ("dealer.lan.", "ends in a dot"),
        ("händler.lan", "not ASCII"),
        ("party1", "the name of another role"),
        ("*.lan", "neither a DNS name nor an IP address"),
    ] {
        let parent = TempDir::new().expect("a folder");
        let folder = parent.path().join("pki");
        let hosts = vec!["good.lan".to_owned(), host.to_owned()];
        let error =
            Pki::create(&folder, &BTreeMap::from([(Role::Party0, hosts.clone())])).expect_err("no host");
        assert!(
            matches!(error, LinkError::Host { .. }) && error.to_string().contains(words),
            "{host}: {error}"
        );
        assert!(!folder.exists(), "{host}");
        Request::make(&folder, Role::Party0, "party0", &hosts).expect_err("no host");
        assert!(!folder.exists(), "{host}");
        let pki = Pki::create_authority(&folder).expect("an authority");
        pki.issue(Role::Party0, "party0", &hosts).expect_err("no host");
        assert_eq!(entries(&folder), ["ca.key", "ca.pem"], "{host}");
    }
    for host in ["localhost", "a.b-c.example", "xn--hndler-bua.lan", "10.0.0.1", "::1", "fe80::1", "party0"] {
        let folder = TempDir::new().expect("a folder");
        Request::make(folder.path(), Role::Party0, "party0", &[host.to_owned()]).expect(host);
    }
}

#[test]
fn an_authority_that_cannot_be_made_leaves_nothing_behind() {
    for taken in ["ca.pem", "ca.key", "crl.pem", "party1.key", "observer.pem"] {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join(taken), "precious").expect("writes");
        let error = Pki::create(folder.path(), &BTreeMap::new()).expect_err("taken").to_string();
        assert!(error.contains(taken) && error.contains("exists already"), "{error}");
        assert_eq!(entries(folder.path()), [taken]);
        assert_eq!(fs::read_to_string(folder.path().join(taken)).expect("reads"), "precious");
    }
    let folder = authority();
    let pki = Pki::open(folder.path()).expect("opens");
    for name in ["", "ca", "crl", "../elsewhere", "a b", ".hidden"] {
        let error = pki.issue(Role::Client, name, &[]).expect_err("no name").to_string();
        assert!(error.contains("is no name for files"), "{error}");
    }
}

#[test]
fn a_key_in_the_wrong_form_is_named_with_what_mends_it() {
    let folder = authority();
    let path = |name: &str| folder.path().join(name);
    let good = fs::read_to_string(path("party0.key")).expect("reads");
    let body = |text: &str| -> String { text.lines().filter(|line| !line.starts_with('-')).collect() };
    let labelled =
        |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    let load = |name: &str| Identity::load(&path("ca.pem"), &path("party0.pem"), &path(name));
    let certificate = fs::read_to_string(path("party0.pem")).expect("reads");
    let old = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA";
    for (text, words) in [
        (labelled("ENCRYPTED PRIVATE KEY", "AAAA"), "openssl pkey -in"),
        (labelled("EC PRIVATE KEY", old), "openssl pkey -in"),
        (labelled("EC PRIVATE KEY", &body(&good)), "sed -i 's/EC PRIVATE KEY-----/PRIVATE KEY-----/'"),
        (labelled("RSA PRIVATE KEY", &body(&good)), "sed -i 's/RSA PRIVATE KEY-----/PRIVATE KEY-----/'"),
        (labelled("OPENSSH PRIVATE KEY", "AAAA"), "ssh-keygen -p -m PKCS8 -f"),
        (labelled("PUBLIC KEY", "AAAA"), "a public key stands there"),
        (certificate, "are the files of certificate and key exchanged?"),
        (labelled("PRIVATE KEY", "AAAA"), "no private key that is supported"),
        (labelled("PRIVATE KEY", "A!A"), "is not base64"),
        (good.replace("-----END PRIVATE KEY-----", ""), "is cut off"),
        ("0\u{1}".into(), "openssl pkey -inform DER"),
        ("\u{7f}ELF".into(), "no line `-----BEGIN"),
        (String::new(), "is empty"),
    ] {
        write_private(&path("wrong.key"), text.as_bytes());
        let error = load("wrong.key").expect_err("a wrong key").to_string();
        assert!(error.contains("wrong.key") && error.contains(words), "{words:?} is missing in: {error}");
        assert!(!error.contains(&body(&good)[..16]), "the key is in the message");
    }
    let wide: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    write_private(&path("wrong.key"), &[b"\xff\xfe".to_vec(), wide].concat());
    assert!(load("wrong.key").expect_err("UTF-16").to_string().contains("iconv -f utf-16"));

    // The other way round.
    let error = Identity::load(&path("ca.pem"), &path("party0.key"), &path("party0.key")).expect_err("a key");
    assert!(error.to_string().contains("are the files of certificate and key exchanged?"), "{error}");
    Request::make(folder.path(), Role::Party0, "asked", &[]).expect("a request");
    let error =
        Identity::load(&path("ca.pem"), &path("asked.csr"), &path("party0.key")).expect_err("a request");
    assert!(error.to_string().contains("`suf pki sign` makes a certificate of it"), "{error}");
}

#[test]
fn a_byte_order_mark_and_other_ends_of_lines_are_read() {
    let folder = authority();
    let path = |name: &str| folder.path().join(name);
    Pki::open(folder.path()).expect("opens").revoke(&[path("client.pem")]).expect("revokes");
    for change in [
        |text: &str| format!("\u{feff}{text}"),
        |text: &str| text.replace('\n', "\r\n"),
        |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n")),
        |text: &str| format!("# a remark before it\n{text}# and one behind it"),
    ] {
        for name in ["ca.pem", "party0.pem", "party0.key", "crl.pem"] {
            let good = fs::read_to_string(path(name)).expect("reads");
            fs::write(path(name), change(&good)).expect("writes");
            Identity::load_from(folder.path(), "party0").expect(name);
            fs::write(path(name), good).expect("writes");
        }
    }
}

/// The seeds of the fuzz target were made by OpenSSL 3.
#[test]
fn what_openssl_makes_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/seeds/certificates/");
    let seed = |name: &str| fs::read(format!("{folder}{name}")).expect("a seed");
    let request = Request::parse(&seed("csr-text")).expect("a request");
    assert_eq!(request.role(), Some(Role::Party0));
    assert_eq!(request.hosts(), ["party0.lan", "10.0.0.1"]);
    let certificates = pem::certificates(&seed("certificate-text")).expect("a certificate");
    assert_eq!(suf_link::role_of(&certificates[0]), Ok(Role::Party0));
    assert_eq!(pem::revocation_lists(&seed("list-text")).expect("a list").len(), 1);
    for name in ["key-text", "sec1-text"] {
        pem::private_key(&seed(name)).expect(name);
    }
}
