//! Models with private weights that are loaded at the parties, as whoever calls them sees them.

use suf_control::v1::{self, ListLoadsRequest, LoadRef, party_client::PartyClient};
use suf_wire::Party;
use tonic::transport::Channel;

use crate::{
    client::{Parties, place},
    error::Error,
};

/// What a load is called in requests: a digest of the weights and of a salt.
pub type LoadDigest = [u8; 32];

/// A load, and what each party says of it.
#[derive(Debug, Clone)]
pub struct Located {
    /// At party 0 and at party 1; none where it is not loaded, or the party was not asked.
    pub at: [Option<v1::Load>; 2],
}

impl Located {
    /// What one of the parties says of it.
    ///
    /// # Panics
    /// Never: a party has named it.
    #[must_use]
    pub fn load(&self) -> &v1::Load {
        self.at.iter().flatten().next().expect("a party has named it")
    }

    /// The only party that has it; none if both have it.
    #[must_use]
    pub fn only_at(&self) -> Option<Party> {
        match &self.at {
            [Some(_), None] => Some(Party::P0),
            [None, Some(_)] => Some(Party::P1),
            _ => None,
        }
    }

    /// Whether it is called `name`, or has this digest in hexadecimal digits.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let load = self.load();
        load.name == name || hex::encode(&load.digest).eq_ignore_ascii_case(name)
    }
}

/// What each party listed, load by load, in the order of the first party that names it.
#[must_use]
pub fn merged(listed: [Vec<v1::Load>; 2]) -> Vec<Located> {
    let mut all: Vec<Located> = Vec::new();
    for (party, loads) in Party::BOTH.into_iter().zip(listed) {
        for load in loads {
            match all.iter_mut().find(|known| known.load().digest == load.digest) {
                Some(known) => known.at[party.index()] = Some(load),
                None => {
                    let mut at = [None, None];
                    at[party.index()] = Some(load);
                    all.push(Located { at });
                }
            }
        }
    }
    all
}

/// The loads at one party that the caller may know.
///
/// # Errors
/// When the party does not answer.
pub async fn listed(party: Party, client: &mut PartyClient<Channel>) -> Result<Vec<v1::Load>, Error> {
    let reply = client.list_loads(ListLoadsRequest {}).await;
    Ok(reply.map_err(|status| Error::call(place(party), status))?.into_inner().loads)
}

/// Wipes a load at one party.
///
/// # Errors
/// When there is none, or the party does not answer.
pub async fn dropped(
    party: Party,
    client: &mut PartyClient<Channel>,
    load: &v1::Load,
) -> Result<v1::Load, Error> {
    let reply = client.drop_load(LoadRef { digest: load.digest.clone() }).await;
    Ok(reply.map_err(|status| Error::call(place(party), status))?.into_inner())
}

impl Parties {
    /// Drops this owner's other loads that are called as the one of `digest`: it takes their place. How many there were.
    ///
    /// # Errors
    /// When a party does not answer.
    pub async fn replace(&self, name: &str, digest: &LoadDigest) -> Result<usize, Error> {
        let others: Vec<_> = self.loads().await?;
        let is_other = |load: &&Located| load.load().name == name && load.load().digest[..] != digest[..];
        let mut count = 0;
        for other in others.iter().filter(is_other) {
            for (party, load) in Party::BOTH.into_iter().zip(&other.at) {
                if let Some(load) = load {
                    dropped(party, &mut self.party(party), load).await?;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// The loads at both parties that this client may use, or this owner has made.
    ///
    /// # Errors
    /// When a party does not answer.
    pub async fn loads(&self) -> Result<Vec<Located>, Error> {
        let (mut first, mut second) = (self.party(Party::P0), self.party(Party::P1));
        let (first, second) =
            tokio::try_join!(listed(Party::P0, &mut first), listed(Party::P1, &mut second))?;
        Ok(merged([first, second]))
    }
}

/// What a client looks for among loads.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    /// Digest of the load program, which follows from the model's sizes.
    pub program: &'a [u8; 32],
    /// The digest that the client's folder was written for.
    pub of_folder: &'a LoadDigest,
    /// Name or digest that the client asks for.
    pub called: Option<&'a str>,
}

impl Search<'_> {
    /// The load that is meant. Without a name it is the one that the folder was written for, else the only one of the model's sizes.
    /// Also says so where the folder was written for another one.
    ///
    /// # Errors
    /// When there is none, there are several, or it is loaded at one party only: which there are, and what to do.
    pub fn choose(&self, loads: &[Located]) -> Result<(LoadDigest, Option<String>), Error> {
        let fitting = |load: &&Located| load.load().program_digest[..] == self.program[..];
        let mut found: Vec<&Located> = loads.iter().filter(fitting).collect();
        if let Some(called) = self.called {
            found.retain(|load| load.is_called(called));
        } else if let Some(own) = found.iter().find(|load| load.load().digest[..] == self.of_folder[..]) {
            found = vec![own];
        }
        let found = match &found[..] {
            [found] => *found,
            [] => return Err(self.missing(loads)),
            _ => {
                return Err(Error::usage(format!(
                    "several loaded models have these sizes: {}; say which one with --load",
                    names(found)
                )));
            }
        };
        if let Some(only) = found.only_at() {
            return Err(Error::usage(format!(
                "the model {} is loaded at {} only: the other party was restarted, or it was dropped there; ask its owner \
                 to load it again",
                name(found),
                place(only)
            )));
        }
        let load = found.load();
        let digest = load.digest[..].try_into().map_err(|_| crate::client::malformed("a load's digest"))?;
        let is_other = self.called.is_none() && digest != *self.of_folder;
        let note = is_other.then(|| {
            format!(
                "takes the loaded model {}; the folder was written for another load of these sizes",
                name(found)
            )
        });
        Ok((digest, note))
    }

    fn missing(&self, loads: &[Located]) -> Error {
        let what =
            self.called.map_or_else(|| "a model of these sizes".to_owned(), |called| format!("`{called}`"));
        let known = if loads.is_empty() {
            "no model is loaded that this certificate may use".to_owned()
        } else {
            format!("this certificate may use {}", names(loads))
        };
        Error::usage(format!(
            "the parties have not loaded {what}; {known}. It was dropped, or a party was restarted: ask its owner to load it \
             again (`suf model load`)"
        ))
    }
}

/// A load's name and digest, for people.
fn name(load: &Located) -> String {
    let load = load.load();
    format!("{} ({})", load.name, hex::encode(&load.digest))
}

fn names<'a>(loads: impl IntoIterator<Item = &'a Located>) -> String {
    loads.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &str, digest: u8, program: u8) -> v1::Load {
        v1::Load {
            name: name.into(),
            digest: vec![digest; 32].into(),
            program_digest: vec![program; 32].into(),
            ..v1::Load::default()
        }
    }

    fn search(called: Option<&str>) -> Search<'_> {
        Search { program: &[1; 32], of_folder: &[8; 32], called }
    }

    #[test]
    fn loads_of_both_parties_are_one_row_each() {
        let all = merged([vec![load("a", 1, 1), load("b", 2, 1)], vec![load("b", 2, 1), load("c", 3, 1)]]);
        let rows: Vec<_> = all.iter().map(|found| (&found.load().name[..], found.only_at())).collect();
        assert_eq!(rows, [("a", Some(Party::P0)), ("b", None), ("c", Some(Party::P1))]);
    }

    #[test]
    fn a_load_is_chosen_by_its_name_its_folder_or_its_sizes() {
        let at_both = |loads: &[v1::Load]| merged([loads.to_vec(), loads.to_vec()]);
        let two = at_both(&[load("a", 7, 1), load("b", 8, 1), load("a", 9, 2)]);
        let chosen = |called| search(called).choose(&two).expect("one is meant");
        assert_eq!(chosen(None), ([8; 32], None), "that of the folder");
        assert_eq!(chosen(Some("a")), ([7; 32], None), "one of its sizes");
        assert_eq!(chosen(Some(&"07".repeat(32))), ([7; 32], None));
        let (digest, note) = search(None).choose(&two[..1]).expect("there is one");
        assert_eq!(digest, [7; 32]);
        assert!(note.is_some_and(|note| note.contains("written for another load")));
    }

    #[test]
    fn what_is_missing_ambiguous_or_at_one_party_is_named() {
        let refused = |loads: [Vec<v1::Load>; 2], called| {
            search(called).choose(&merged(loads)).expect_err("nothing is meant").to_string()
        };
        let (a, b) = (load("a", 7, 1), load("b", 9, 1));
        let none = refused([vec![], vec![]], None);
        assert!(none.contains("no model is loaded that this certificate may use"), "{none}");
        let other = refused([vec![a.clone()], vec![a.clone()]], Some("c"));
        assert!(other.contains("have not loaded `c`") && other.contains("a (0707"), "{other}");
        let both = refused([vec![a.clone(), b.clone()], vec![a.clone(), b.clone()]], None);
        assert!(both.contains("a (0707") && both.contains("b (0909") && both.contains("--load"), "{both}");
        for (loads, only) in [([vec![a.clone()], vec![]], "party 0"), ([vec![], vec![a]], "party 1")] {
            let message = refused(loads, None);
            assert!(message.contains(&format!("loaded at {only} only")), "{message}");
        }
    }
}
