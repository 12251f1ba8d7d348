//! Certificate requests: a host makes its key itself and asks for a certificate, so that no private key ever travels.

use std::path::{Path, PathBuf};

use rcgen::{
    Certificate, CertificateParams, CertificateSigningRequestParams, DnType, Issuer, KeyPair, PublicKeyData,
    SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use suf_files::{NewFiles, PRIVATE, PUBLIC};
use suf_wire::Role;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

use crate::certificate::{ROLE_URI, fingerprint, public_key_of};
use crate::error::LinkError;
use crate::pem::{self, wrong};
use crate::pki::{check_hosts, check_name, names, unmade};

/// A request whose signature was checked: who made it has the private key.
#[derive(Debug)]
pub struct Request {
    path: PathBuf,
    role: Option<Role>,
    hosts: Vec<String>,
    inner: CertificateSigningRequestParams,
    /// Algorithm and key, as they stand in the request.
    public_key: Vec<u8>,
}

impl Request {
    /// Makes a private key, `NAME.key`, and a request for a certificate of `role`, `NAME.csr`, in `folder` (created if need be).
    /// Gives the fingerprint of the key.
    ///
    /// # Errors
    /// If a host or the name is none, or a file exists or cannot be written. Nothing was written then.
    pub fn make(folder: &Path, role: Role, name: &str, hosts: &[String]) -> Result<String, LinkError> {
        check_name(folder, name)?;
        check_hosts(role, hosts)?;
        let names = [format!("{name}.csr"), format!("{name}.key"), format!("{name}.pem")];
        let mut files = NewFiles::begin(folder, &names)?;
        let key = KeyPair::generate().map_err(|error| unmade(folder, error))?;
        let mut params = self::names(role, hosts)?;
        params.distinguished_name.push(DnType::CommonName, format!("suf {role}"));
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        let request = request.map_err(|error| unmade(folder, error))?;
        files.add(&names[0], request.as_bytes(), PUBLIC)?;
        files.add(&names[1], Zeroizing::new(key.serialize_pem()).as_bytes(), PRIVATE)?;
        files.finish()?;
        Ok(fingerprint(&key.subject_public_key_info()))
    }

    /// Reads and checks the request at `path`.
    ///
    /// # Errors
    /// If it is missing, damaged, not signed by its own key, or asks for what no role has.
    pub fn read(path: &Path) -> Result<Self, LinkError> {
        let der = pem::read_request(path)?;
        let mut request = Self::decode(&der).map_err(|problem| wrong(path, problem))?;
        request.path = path.to_owned();
        Ok(request)
    }

    /// As [`Request::read`], of the bytes of a PEM file.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        Self::decode(&pem::request(text)?)
    }

    fn decode(der: &CertificateSigningRequestDer<'_>) -> Result<Self, String> {
        let (rest, parsed) = X509CertificationRequest::from_der(der)
            .map_err(|error| format!("is no certificate request: {error}"))?;
        if !rest.is_empty() {
            return Err("is no certificate request: there is something behind it".into());
        }
        let public_key = parsed.certification_request_info.subject_pki.raw.to_vec();
        let inner = CertificateSigningRequestParams::from_der(der).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => {
                "was altered, or its key is not its maker's: the signature is wrong; make it anew with `suf pki request`".into()
            }
            other => format!("asks for what is not signed here: {other}; make it with `suf pki request`"),
        })?;
        if inner.params.is_ca != rcgen::IsCa::NoCa && inner.params.is_ca != rcgen::IsCa::ExplicitNoCa {
            return Err("asks to become an authority, which is not signed here".into());
        }
        let (mut role, mut hosts) = (None, Vec::new());
        for name in &inner.params.subject_alt_names {
            match name {
                SanType::DnsName(name) => hosts.push(name.to_string()),
                SanType::IpAddress(address) => hosts.push(address.to_string()),
                SanType::URI(uri) => {
                    let asked = uri.as_str().strip_prefix(ROLE_URI).and_then(Role::from_name);
                    let asked = asked
                        .ok_or_else(|| format!("asks for the name {:?}, which is no role", uri.as_str()))?;
                    if role.replace(asked).is_some() {
                        return Err("asks for more than one role".into());
                    }
                }
                other => return Err(format!("asks for a name of another kind: {other:?}")),
            }
        }
        // Every certificate has its role's own name.
        hosts.retain(|host| Some(host.as_str()) != role.map(Role::name));
        Ok(Self { path: PathBuf::new(), role, hosts, inner, public_key })
    }

    /// The role that is asked for, if the request says.
    pub fn role(&self) -> Option<Role> {
        self.role
    }

    /// The hosts that are asked for.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The fingerprint of the key: what its maker was shown.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.public_key)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A certificate that says `params`, for the key of the request.
    pub(crate) fn signed(
        &self,
        params: CertificateParams,
        issuer: &Issuer<'_, KeyPair>,
    ) -> Result<Certificate, LinkError> {
        let asked = CertificateSigningRequestParams { params, public_key: self.inner.public_key.clone() };
        let signed = asked.signed_by(issuer).map_err(|error| unmade(&self.path, error))?;
        // The library infers the kind of key from the signature, which does not always say it.
        if public_key_of(signed.der()).as_ref() != Ok(&self.public_key) {
            let problem = "has a key of a kind that is not signed here; make it with `suf pki request`";
            return Err(wrong(&self.path, problem));
        }
        Ok(signed)
    }
}
