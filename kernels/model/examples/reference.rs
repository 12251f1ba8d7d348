//! The vectors of texts in 64-bit floats, one JSON list a line, and how long they took on standard error. The folder of a model
//! is the argument, standard input has a text on each line.

#[macro_use]
#[path = "../../gate/examples/output/mod.rs"]
mod output;

#[path = "disk/mod.rs"]
mod disk;

use std::{
    env,
    io::{self, BufRead},
    time::Instant,
};

use disk::Disk;
use suf_model::bert::{Bert, Reference};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args_os().nth(1).ok_or("the folder of a model is due")?;
    let model = Bert::load(&Disk(folder.into()))?;
    let reference = Reference::new(&model);
    let start = Instant::now();
    let mut tokens = 0;
    for text in io::stdin().lock().lines() {
        let ids = model.tokens.encode(&text?, model.config.positions as usize)?;
        tokens += ids.len();
        say!("{}", serde_json::to_string(&reference.embed(&ids))?);
    }
    eprintln!("{tokens} tokens in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
