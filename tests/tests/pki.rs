//! Certificates between real processes: keys that stay on their hosts, and certificates that are taken back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use suf_cli::client::{self, start_request};
use suf_control::{client::party, v1::InfoRequest};
use suf_link::Identity;
use suf_tests::{
    caller::{Caller, by_id, gelu},
    holdings::nothing_in_use,
    npy,
    processes::{Hosts, NAMES, expect},
};
use suf_wire::{Role, RunId};
use tonic::Code;

const PROGRAM: &str = env!("CARGO_BIN_EXE_suf-under-test");

/// Done, the run failed, wrong usage.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;

/// `suf pki` in `folder`.
fn pki(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("pki").args(arguments).current_dir(folder).output().expect("suf starts")
}

/// As [`pki`], of a command that must succeed.
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = pki(folder, arguments);
    expect(&output, DONE, &[], &format!("suf pki {arguments:?}"));
    String::from_utf8(output.stdout).expect("text")
}

/// A key and certificate for `role` in `out`, signed by the authority in `authority`, whose certificate is put beside them.
fn certify(folder: &Path, authority: &str, role: &str, out: &str) {
    let name = |ending: &str| format!("{out}/{role}.{ending}");
    done(folder, &["request", role, "--out", out]);
    done(folder, &["sign", &name("csr"), "--ca", authority, "--role", role, "--out", &name("pem")]);
    fs::copy(folder.join(authority).join("ca.pem"), folder.join(out).join("ca.pem")).expect("copied");
}

/// Sends SIGHUP to a daemon and waits until its log has `words` once more.
fn hang_up(hosts: &mut Hosts, name: &str, words: &str) {
    let count = |hosts: &Hosts| hosts.log(name).matches(words).count();
    let before = count(hosts);
    let hung_up = Command::new("kill").args(["-HUP", &hosts.pid(name).to_string()]).status();
    assert!(hung_up.expect("kill runs").success());
    while count(hosts) == before {
        assert!(hosts.is_alive(name), "{name} died: {}", hosts.log(name));
        std::thread::yield_now();
    }
}

const READ: &str = "certificate read anew";

#[test]
fn keys_made_on_their_hosts_and_signed_by_the_authority_carry_a_run() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let folder = hosts.folder().to_owned();
    done(&folder, &["init", "authority", "--authority-only"]);
    fs::remove_dir_all(folder.join("pki")).expect("what the one command made");
    for role in NAMES {
        certify(&folder, "authority", role, role);
    }
    for role in ["client", "operator"] {
        certify(&folder, "authority", role, "pki");
    }
    // Each host has its own key, and the authority has none of them.
    let keys = |place: &str| -> Vec<PathBuf> {
        let files =
            fs::read_dir(folder.join(place)).expect("a folder").map(|entry| entry.expect("readable").path());
        files.filter(|path| path.extension().is_some_and(|ending| ending == "key")).collect()
    };
    assert_eq!(keys("authority"), [folder.join("authority/ca.key")]);
    for role in NAMES {
        assert_eq!(keys(role), [folder.join(format!("{role}/{role}.key"))]);
    }
    hosts.start_daemons(|name, config| config.replace("\"pki/", &format!("\"{name}/")));
    npy::write_i64(&folder.join("x.npy"), &[4096; 9]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "with keys made on their hosts");
}

/// Certificates name hosts for other programs: no process of ours compares them with where it calls, or is called from.
#[test]
fn a_host_in_a_certificate_has_no_part_in_whether_it_is_accepted() {
    let mut hosts = Hosts::prepare(Path::new(PROGRAM));
    let folder = hosts.folder().to_owned();
    fs::remove_dir_all(folder.join("pki")).expect("just made");
    let elsewhere =
        ["--dealer", "dealer.elsewhere.example", "--party0", "192.0.2.1", "--party1", "2001:db8::1"];
    done(&folder, &[&["init", "pki"][..], &elsewhere].concat());
    for (role, host) in NAMES.into_iter().zip(["dealer.elsewhere.example", "192.0.2.1", "2001:db8::1"]) {
        let parsed = fs::read(folder.join("pki").join(format!("{role}.pem"))).expect("a certificate");
        let parsed = pem::parse(parsed).expect("PEM").into_contents();
        let bytes: Vec<u8> = match host.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(address)) => address.octets().into(),
            Ok(std::net::IpAddr::V6(address)) => address.octets().into(),
            Err(_) => host.into(),
        };
        assert!(parsed.windows(bytes.len()).any(|part| part == bytes), "{role} is not for {host}");
        let here = b"localhost";
        assert!(!parsed.windows(here.len()).any(|part| part == here), "{role} is for this host, too");
    }
    hosts.start_daemons(|_, config| config);
    npy::write_i64(&folder.join("x.npy"), &[4096; 9]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "with certificates for hosts elsewhere");
    // The role is what counts: the same certificates, exchanged, are refused.
    let [option, url, identity, file] = hosts.as_client_of("party1");
    let exchanged = hosts.suf(&["runs", &option.replace("party1", "party0"), &url, &identity, &file]);
    expect(&exchanged, FAILED, &["party1", "party0"], "party 1 where party 0 is called");
}

#[test]
fn sign_shows_what_is_asked_and_signs_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    done(folder, &["init", "authority", "--authority-only"]);
    let made = done(folder, &["request", "client", "--out", "here", "--host", "laptop.lan,10.0.0.7"]);
    let fingerprint = made.lines().find_map(|line| line.strip_prefix("fingerprint of the key: "));
    let fingerprint = fingerprint.expect("the fingerprint is printed");
    let sign = |more: &[&str]| {
        let arguments = [&["sign", "here/client.csr", "--ca", "authority"], more].concat();
        pki(folder, &arguments)
    };
    let certificate = folder.join("authority/client.pem");
    for (more, words) in [
        (&[][..], &["nothing was signed", "--role"][..]),
        (&["--role", "operator"], &["asks for the role client", "operator", "nothing was signed"]),
        (&["--role", "client", "--fingerprint", "00ff"], &["nothing was signed", fingerprint, "00ff"]),
        (&["--role", "client", "--host", "10.0.0.7:7101"], &["10.0.0.7:7101", "has a port"]),
    ] {
        let output = sign(more);
        expect(&output, USAGE, words, &format!("{more:?}"));
        let shown = String::from_utf8_lossy(&output.stdout);
        for shows in ["role         client", "hosts        laptop.lan, 10.0.0.7", fingerprint] {
            assert!(shown.contains(shows), "'{shows}' is missing in: {shown}");
        }
        assert!(!certificate.exists(), "{more:?}");
    }
    // Changed on its way: the role, or any other byte.
    let good = fs::read_to_string(folder.join("here/client.csr")).expect("a request");
    let (first, rest) = good.split_once('\n').expect("lines");
    let altered: String = rest
        .char_indices()
        .map(|(at, c)| if at == 40 { if c == 'A' { 'B' } else { 'A' } } else { c })
        .collect();
    fs::write(folder.join("here/client.csr"), format!("{first}\n{altered}")).expect("writable");
    expect(&sign(&["--role", "client"]), USAGE, &["client.csr"], "an altered request");
    assert!(!certificate.exists());
    fs::write(folder.join("here/client.csr"), good).expect("writable");

    let capitals = fingerprint.to_uppercase();
    expect(&sign(&["--role", "client", "--fingerprint", &capitals]), DONE, &[], "as asked");
    expect(&sign(&["--role", "client"]), USAGE, &["client.pem", "exists already"], "a second time");
    fs::copy(certificate, folder.join("here/client.pem")).expect("copied");
    fs::copy(folder.join("authority/ca.pem"), folder.join("here/ca.pem")).expect("copied");
    assert_eq!(Identity::load_from(&folder.join("here"), "client").expect("fits").role(), Role::Client);
}

#[test]
fn a_command_that_is_refused_leaves_no_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    for (arguments, words) in [
        (&["init", "pki", "--party0", "10.0.0.1:7101"][..], "has a port"),
        (&["init", "pki", "--dealer", "dealer.lan,"], "is empty"),
        (&["request", "party0", "--out", "pki", "--host", "https://party0.lan"], "is a URL"),
        (&["request", "party0", "--out", "pki", "--host", "dealer"], "the name of another role"),
        (&["request", "party0", "--out", "pki", "--name", "../party0"], "is no name for files"),
        (&["request", "party2", "--out", "pki"], "is no role"),
        (&["init", "pki", "--authority-only", "--party0", "10.0.0.1"], "--authority-only"),
    ] {
        expect(&pki(folder, arguments), USAGE, &[words], &format!("{arguments:?}"));
        assert_eq!(fs::read_dir(folder).expect("a folder").count(), 0, "{arguments:?}");
    }
    done(folder, &["init", "pki"]);
    let before = fs::read(folder.join("pki/ca.pem")).expect("an authority");
    for arguments in [&["init", "pki"][..], &["init", "pki", "--authority-only"]] {
        expect(&pki(folder, arguments), USAGE, &["ca.pem", "exists already"], &format!("{arguments:?}"));
    }
    assert_eq!(fs::read(folder.join("pki/ca.pem")).expect("an authority"), before);
}

#[test]
fn a_revoked_client_is_refused_by_both_parties_without_a_restart() {
    let mut hosts = Hosts::start_with(Path::new(PROGRAM), |name, config| match name {
        "dealer" => config,
        _ => format!("lease_s = 1\n{config}"),
    });
    let folder = hosts.folder().to_owned();
    npy::write_i64(&folder.join("x.npy"), &[4096; 9]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "before");
    done(&folder, &["issue", "pki", "client", "--name", "other"]);
    let identity = Identity::load_from(&folder.join("pki"), "client").expect("a client");
    let urls = [1, 3].map(|at| hosts.as_client()[at].clone());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let roles = [Role::Party0, Role::Party1];
    let mut open = runtime.block_on(async {
        let mut open = Vec::new();
        for (url, role) in urls.iter().zip(roles) {
            open.push(party(client::connect(url, &identity, role).await.expect("connects")));
        }
        open
    });
    let info = |client: &mut suf_control::v1::party_client::PartyClient<_>| {
        runtime.block_on(client.info(InfoRequest {}))
    };
    for client in &mut open {
        info(client).expect("admitted");
    }
    // A call that keeps a run.
    let run = RunId([7; 16]);
    let mut watching = runtime.block_on(async {
        let gate = gelu();
        for client in &mut open {
            client.start_run(start_request(&gate, 9, run, None)).await.expect("admitted");
        }
        let mut watching = Vec::new();
        for client in &mut open {
            watching.push(client.watch_run(by_id(run)).await.expect("its own").into_inner());
        }
        watching
    });

    done(&folder, &["revoke", "pki/client.pem", "--ca", "pki"]);
    for name in ["party0", "party1"] {
        hang_up(&mut hosts, name, READ);
    }
    // In calls that were under way. The run then ends by its lease.
    for states in &mut watching {
        let status = runtime.block_on(async {
            loop {
                match states.message().await {
                    Ok(state) => assert!(state.is_some(), "the run has ended"),
                    Err(status) => return status,
                }
            }
        });
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("the certificate for client was revoked on"), "{status}");
    }
    runtime.block_on(async { nothing_in_use(&Caller::connect(&hosts, "observer").await).await });
    // On connections that were open before.
    for client in &mut open {
        let status = info(client).expect_err("revoked");
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
        assert!(status.message().contains("the certificate for client was revoked on"), "{status}");
    }
    // On new ones, from a client that has not heard of it.
    for (url, role) in urls.iter().zip(roles) {
        let refused = runtime.block_on(client::connect(url, &identity, role)).expect_err("revoked");
        assert!(refused.to_string().contains("CertificateRevoked"), "{refused}");
    }
    // A client that has the list says so itself, before it calls.
    expect(&hosts.onehot("x.npy"), USAGE, &["client.pem", "was revoked on", "suf pki request"], "itself");
    // Another client's certificate works.
    for ending in ["pem", "key"] {
        fs::rename(folder.join(format!("pki/other.{ending}")), folder.join(format!("pki/client.{ending}")))
            .expect("moved");
    }
    expect(&hosts.onehot("x.npy"), DONE, &[], "another client");
}

#[test]
fn a_revoked_party_is_refused_by_its_peer_and_by_the_dealer() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    let folder = hosts.folder().to_owned();
    npy::write_i64(&folder.join("x.npy"), &[4096; 9]);
    expect(&hosts.onehot("x.npy"), DONE, &[], "before");
    // The client has its authority elsewhere: it never learns of the list, so that the daemons' refusals are seen.
    fs::create_dir(folder.join("elsewhere")).expect("a new folder");
    fs::copy(folder.join("pki/ca.pem"), folder.join("elsewhere/ca.pem")).expect("copied");
    let evaluate = |hosts: &Hosts| {
        let how = ["--protocol", "onehot", "--ca", "elsewhere/ca.pem"];
        hosts.eval(&how, "x.npy").output().expect("suf starts")
    };
    done(&folder, &["revoke", "pki/party1.pem", "--ca", "pki"]);
    expect(&hosts.onehot("x.npy"), FAILED, &["party1", "Revoked"], "refused by a client that has the list");
    hang_up(&mut hosts, "dealer", READ);
    expect(&evaluate(&hosts), FAILED, &["dealer", "Revoked"], "refused by the dealer");
    let closed = "the certificate for party1 was revoked on";
    assert!(hosts.log("dealer").contains(closed), "{}", hosts.log("dealer"));
    // The link between the parties was open all the time, and is closed now.
    hang_up(&mut hosts, "party0", "the certificate for party1 was revoked on");
    // Either party may be the first to say it.
    expect(&evaluate(&hosts), FAILED, &["not connected"], "refused by its peer");

    // A new key and certificate, made where party 1 is.
    done(&folder, &["request", "party1", "--out", "pki", "--name", "next"]);
    done(&folder, &["sign", "pki/next.csr", "--ca", "pki", "--role", "party1"]);
    for ending in ["pem", "key"] {
        fs::rename(folder.join(format!("pki/next.{ending}")), folder.join(format!("pki/party1.{ending}")))
            .expect("moved");
    }
    hang_up(&mut hosts, "party1", READ);
    expect(&hosts.onehot("x.npy"), DONE, &[], "with a new certificate");
}

#[test]
fn a_new_authority_is_trusted_beside_the_old_one_without_a_restart() {
    let mut hosts = Hosts::start(Path::new(PROGRAM));
    let folder = hosts.folder().to_owned();
    npy::write_i64(&folder.join("x.npy"), &[4096; 9]);
    done(&folder, &["init", "next", "--authority-only"]);
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("a certificate");
    let both = read("pki/ca.pem") + &read("next/ca.pem");
    for ending in ["pem", "key"] {
        fs::remove_file(folder.join(format!("pki/client.{ending}"))).expect("the old one's");
    }
    certify(&folder, "next", "client", "own");
    for ending in ["pem", "key"] {
        fs::rename(folder.join(format!("own/client.{ending}")), folder.join(format!("pki/client.{ending}")))
            .expect("moved");
    }
    fs::write(folder.join("pki/ca.pem"), both).expect("writable");
    expect(&hosts.onehot("x.npy"), FAILED, &["did not accept our certificate", "UnknownCA"], "not read yet");
    for name in NAMES {
        hang_up(&mut hosts, name, READ);
    }
    expect(&hosts.onehot("x.npy"), DONE, &[], "both are trusted");
    // All or nothing: with a list that is not theirs, nothing is read anew.
    fs::write(folder.join("pki/crl.pem"), "no list").expect("writable");
    hang_up(&mut hosts, "party0", "the certificate stays as it was");
    fs::remove_file(folder.join("pki/crl.pem")).expect("just written");
    expect(&hosts.onehot("x.npy"), DONE, &[], "as before");
}
