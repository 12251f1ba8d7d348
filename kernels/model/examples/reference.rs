//! The vectors of texts in 64-bit floats, one JSON list a line, and how long they took on standard error. The folder of a model
//! is the argument, standard input has a text on each line.

use std::{
    env, fs,
    io::{self, BufRead},
    path::PathBuf,
    time::Instant,
};

use suf_model::{
    Folder,
    bert::{Bert, Reference},
    folder::too_large,
};

struct Disk(PathBuf);

impl Folder for Disk {
    fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, String> {
        let path = self.0.join(path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > most => Err(too_large(metadata.len(), most)),
            Ok(_) => fs::read(&path).map(Some).map_err(|error| error.to_string()),
            Err(_) => Ok(None),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::args_os().nth(1).ok_or("the folder of a model is due")?;
    let model = Bert::load(&Disk(folder.into()))?;
    let reference = Reference::new(&model);
    let start = Instant::now();
    let mut tokens = 0;
    for text in io::stdin().lock().lines() {
        let ids = model.tokens.encode(&text?, model.config.positions as usize)?;
        tokens += ids.len();
        println!("{}", serde_json::to_string(&reference.embed(&ids))?);
    }
    eprintln!("{tokens} tokens in {:.2} s", start.elapsed().as_secs_f64());
    Ok(())
}
