//! Certificates whose end a test chooses.

use std::{fs, path::Path, time::Duration};

/// Puts a certificate of `role` that ends after `life` in the place of the one in `pki` of `folder`.
pub(crate) fn certify(folder: &Path, role: &str, life: Duration) {
    use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let read = |name: &str| fs::read_to_string(folder.join("pki").join(name)).expect("just made");
    let authority = rcgen::KeyPair::from_pem(&read("ca.key")).expect("a key");
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), authority).expect("an authority");
    let mut params = rcgen::CertificateParams::new(vec![role.to_owned()]).expect("a name");
    let uri = format!("suf:role/{role}").try_into().expect("ASCII");
    params.subject_alt_names.push(rcgen::SanType::URI(uri));
    params.extended_key_usages = vec![ServerAuth, ClientAuth];
    let now = std::time::SystemTime::now();
    params.not_before = (now - Duration::from_secs(60)).into();
    params.not_after = (now + life).into();
    let own = rcgen::KeyPair::from_pem(&read(&format!("{role}.key"))).expect("a key");
    let signed = params.signed_by(&own, &issuer).expect("signed");
    fs::write(folder.join("pki").join(format!("{role}.pem")), signed.pem()).expect("writable");
}
