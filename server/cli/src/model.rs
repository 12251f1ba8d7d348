//! Models as users name them: a folder, a plan, texts.

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use suf_model::{
    Plan, TextError, Tokens,
    bert::{Bert, Config, Length, Public, Quantised, Reference, bucket},
    builtin,
    plan::hex,
    ranges::Ranges,
    text::MOST_TEXT_BYTES,
};
use suf_process::ModelFolder;

use crate::{error::Error, out};

/// Largest file of texts: a million sentences.
const MOST_TEXTS: u64 = 256 << 20;

/// A model that was read from a folder.
#[derive(Debug)]
pub struct Model {
    /// Its floats.
    pub bert: Bert,
    /// Its integers.
    pub integers: Quantised,
    folder: ModelFolder,
    name: String,
}

/// What a client has of a model with private weights.
#[derive(Debug)]
pub struct PublicPart {
    /// What makes inputs of texts, and vectors of outputs.
    pub public: Public,
    /// Bounds of the values in the model.
    pub plan: Plan,
}

impl Model {
    /// The model of the folder at `path`.
    ///
    /// # Errors
    /// When there is no such folder, or no model in it: which file, what is wrong, and what to do.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let folder = ModelFolder::open(path).map_err(Error::usage)?;
        let wrong = |error| Error::usage(format!("the model {}: {error}", path.display()));
        let bert = Bert::load(&folder).map_err(wrong)?;
        let integers = Quantised::new(&bert).map_err(wrong)?;
        let named = builtin::name(integers.digest()).map(str::to_owned);
        Ok(Self { name: named.unwrap_or_else(|| folder_name(path)), bert, integers, folder })
    }

    /// What it is called: by the program, if that knows it, else as its folder.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &ModelFolder {
        &self.folder
    }

    /// The plan at `path`. Without a path it is the plan of the model's folder, one that is part of the program, or one
    /// from built-in sentences. Also returns where the plan comes from. Standard error says so if ranges are measured
    /// on built-in sentences.
    ///
    /// # Errors
    /// When the file cannot be read, is not right, or belongs to another model.
    pub fn plan(&self, path: Option<&Path>) -> Result<(Plan, String), Error> {
        let found = self.folder.plan(path, &self.bert.config, &self.integers).map_err(Error::usage)?;
        if let Some(found) = found {
            return Ok(found);
        }
        let texts: Vec<_> = builtin::sentences().map(str::to_owned).collect();
        out::note(format_args!(
            "no plan for the model {}: ranges are measured on {} built-in sentences; `suf model calibrate` makes a \
             plan from texts of your own",
            hex(self.integers.digest()),
            texts.len()
        ));
        let tokens = self.tokens(&texts, true)?;
        let ranges = self.measure(&tokens, || ());
        Ok((self.plan_of(&ranges), "built-in sentences".into()))
    }

    /// The plan for these ranges.
    #[must_use]
    pub fn plan_of(&self, ranges: &Ranges) -> Plan {
        Plan::new(suf_model::bert::TYPE, *self.integers.digest(), ranges)
    }

    /// The tokens of each text. One that is too long is cut with `truncate`, and refused otherwise.
    ///
    /// # Errors
    /// Which text cannot be taken, and why.
    pub fn tokens(&self, texts: &[String], truncate: bool) -> Result<Vec<Vec<u32>>, Error> {
        encode(&self.bert.tokens, &self.bert.config, texts, truncate)
    }

    /// Texts for a program of this length, each from another line on: the lines are joined and cut. A padded one fills three
    /// quarters of its bucket.
    ///
    /// # Errors
    /// When the lines together have too few tokens.
    pub fn cut(&self, lines: &[String], length: Length) -> Result<Vec<Vec<u32>>, Error> {
        let tokens = if length.padded { (length.tokens * 3).div_ceil(4) } else { length.tokens };
        let text = |first: usize| {
            let order = lines.iter().cycle().skip(first % lines.len()).take(lines.len());
            let mut bytes = 0;
            let some = order.map(String::as_str).take_while(|line| {
                bytes += line.len() + 1;
                bytes <= MOST_TEXT_BYTES
            });
            some.collect::<Vec<_>>().join(" ")
        };
        let encode = |first| self.bert.tokens.encode_cut(&text(first), tokens as usize).map_err(Error::usage);
        let all = (0..length.batch as usize).map(encode).collect::<Result<Vec<_>, _>>()?;
        match all.iter().find(|ids| ids.len() < tokens as usize) {
            None => Ok(all),
            Some(short) => Err(Error::usage(format!(
                "all texts together have {} tokens, and {tokens} are to be measured: give more texts",
                short.len()
            ))),
        }
    }

    /// Checks that the values of each text stay within `plan`, padded to its bucket or alone. No party could notice otherwise.
    ///
    /// # Errors
    /// The first text whose values do not, and which ones.
    pub fn holds(&self, plan: &Plan, texts: &[Vec<u32>], padded: bool) -> Result<(), Error> {
        self.holds_while(plan, texts, padded, || true)
    }

    /// The same. When `going` says no, texts that nobody has begun with are passed over.
    ///
    /// # Errors
    /// As [`Self::holds`].
    pub fn holds_while(
        &self,
        plan: &Plan,
        texts: &[Vec<u32>],
        padded: bool,
        going: impl Fn() -> bool + Sync,
    ) -> Result<(), Error> {
        let reference = Reference::new(&self.bert);
        let config = &self.bert.config;
        let found = in_parallel(texts.len(), |at| {
            if !going() {
                return None;
            }
            let mut ranges = Ranges::none(config.layers as usize, config.heads as usize);
            let ids = &texts[at];
            let tokens = if padded { self.bucket(ids) } else { ids.len() };
            reference.measure(ids, tokens, &mut ranges);
            plan.holds(&ranges, padded).err()
        });
        match found.into_iter().enumerate().find_map(|(at, problem)| Some((at, problem?))) {
            None => Ok(()),
            Some((at, problem)) => Err(Error::usage(format!(
                "text {}: {problem}; nothing was sent: make a plan with `suf model calibrate` on texts like this one",
                at + 1
            ))),
        }
    }

    /// Tokens to which a text is padded.
    fn bucket(&self, ids: &[u32]) -> usize {
        let positions = self.bert.config.positions;
        bucket(ids.len() as u32, positions).unwrap_or(positions) as usize
    }

    /// The ranges of these texts, each padded to its bucket. `step` is called after each.
    #[must_use]
    pub fn measure(&self, texts: &[Vec<u32>], step: impl Fn() + Sync) -> Ranges {
        let reference = Reference::new(&self.bert);
        let config = &self.bert.config;
        let none = Ranges::none(config.layers as usize, config.heads as usize);
        let measured = in_parallel(texts.len(), |at| {
            let mut ranges = none.clone();
            reference.measure(&texts[at], self.bucket(&texts[at]), &mut ranges);
            step();
            ranges
        });
        measured.iter().fold(none, Ranges::join)
    }
}

impl PublicPart {
    /// That of the model of the folder at `path`, as `suf model load` wrote it. The plan is that at `plan`; without it, that of the folder.
    ///
    /// # Errors
    /// When there is no such folder, no model in it, or no plan: what is wrong, and what to do.
    pub fn load(path: &Path, plan: Option<&Path>) -> Result<Self, Error> {
        let folder = ModelFolder::open(path).map_err(Error::usage)?;
        let place = path.display();
        let public =
            Public::load(&folder).map_err(|error| Error::usage(format!("the model {place}: {error}")))?;
        let (plan, name) = folder.plan_file(plan).map_err(Error::usage)?.ok_or_else(|| {
            Error::usage(format!(
                "there is no plan in {place}: name the folder that the model's owner has written with `suf model load --public`"
            ))
        })?;
        let Config { layers, heads, .. } = public.config;
        let suits = plan.suits(&plan.model, layers as usize, heads as usize);
        suits.map_err(|error| Error::usage(format!("{name}: {error}")))?;
        Ok(Self { public, plan })
    }

    /// The tokens of each text, as [`Model::tokens`] has them.
    ///
    /// # Errors
    /// Which text cannot be taken, and why.
    pub fn tokens(&self, texts: &[String], truncate: bool) -> Result<Vec<Vec<u32>>, Error> {
        encode(&self.public.tokens, &self.public.config, texts, truncate)
    }
}

fn encode(
    tokens: &Tokens,
    config: &Config,
    texts: &[String],
    truncate: bool,
) -> Result<Vec<Vec<u32>>, Error> {
    let most = config.positions as usize;
    let encode = |(at, text): (usize, &String)| {
        let numbered = |error: TextError| Error::usage(format!("text {}: {error}", at + 1));
        let ids = if truncate { tokens.encode_cut(text, most) } else { tokens.encode(text, most) };
        ids.map_err(numbered)
    };
    texts.iter().enumerate().map(encode).collect()
}

/// The folder's own name.
fn folder_name(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Applies `work` to each number below `count`, on all processors. The results are in order.
pub(crate) fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let take = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            let made = work(at);
            done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(at, made);
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from).min(count);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(take);
        }
    });
    done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).into_values().collect()
}

/// So many texts, in words.
#[must_use]
pub fn counted(texts: u64) -> String {
    if texts == 1 { "1 text".to_owned() } else { format!("{texts} texts") }
}

/// The texts of a file, one a line. Empty lines are left out.
///
/// # Errors
/// When it cannot be read, is too large, has no text, or a line that is not UTF-8.
pub fn texts(path: &Path) -> Result<Vec<String>, Error> {
    let name = path.display();
    let unread = |error| {
        Error::usage(format!("cannot read the texts {name}: {error}; see its path and its permissions"))
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unread)?;
    file.take(MOST_TEXTS + 1).read_to_end(&mut bytes).map_err(unread)?;
    if bytes.len() as u64 > MOST_TEXTS {
        return Err(Error::usage(format!(
            "{name} has more than {MOST_TEXTS} bytes: cut it into several files"
        )));
    }
    let mut texts = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let text = str::from_utf8(line).map_err(|_| {
            Error::usage(format!("{name}, line {}: this is no text in UTF-8: save the file as UTF-8", at + 1))
        })?;
        if !text.trim().is_empty() {
            texts.push(text.trim_end_matches('\r').to_owned());
        }
    }
    if texts.is_empty() {
        return Err(Error::usage(format!("{name} has no text: write one on each line")));
    }
    Ok(texts)
}
