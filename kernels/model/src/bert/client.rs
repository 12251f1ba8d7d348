//! What a client does itself: the first layer norm of a text's embeddings goes into a program, and vectors come out.

use super::{Compiled, Ends, Length, bucket, compile::SCORE, quantised::NORMED};

/// A program's length, and texts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextBatch {
    /// Which program.
    pub length: Length,
    /// Indices of the texts among all.
    pub texts: Vec<usize>,
}

/// The programs for these texts, each given by its tokens: of equally many tokens, or of the same bucket where lengths stay hidden.
/// At most `most` texts are evaluated together; a program takes a power of two of them.
///
/// # Panics
/// If a text has more tokens than the model has positions.
#[must_use]
pub fn batches(texts: &[Vec<u32>], positions: u32, padded: bool, most: u32) -> Vec<TextBatch> {
    let mut lengths = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (at, ids) in texts.iter().enumerate() {
        let tokens = ids.len() as u32;
        let tokens =
            if padded { bucket(tokens, positions).expect("a text within the positions") } else { tokens };
        lengths.entry(tokens).or_default().push(at);
    }
    let mut batches = Vec::new();
    for (tokens, texts) in lengths {
        let mut rest = &texts[..];
        while !rest.is_empty() {
            let fits = (rest.len() as u32).min(most);
            let batch = 1 << fits.ilog2();
            let (now, later) = rest.split_at(batch as usize);
            batches.push(TextBatch { length: Length { tokens, batch, padded }, texts: now.to_vec() });
            rest = later;
        }
    }
    batches
}

impl Compiled {
    /// The values of the program's inputs, in order: the texts' normalised embeddings, and what is added to the scores of padding.
    ///
    /// # Panics
    /// If there are not as many texts as the program takes, or one does not fit.
    #[must_use]
    pub fn inputs<'a>(&self, model: impl Into<Ends<'a>>, texts: &[&[u32]]) -> Vec<Vec<i64>> {
        let model = model.into();
        let Length { tokens, batch, padded } = self.length;
        assert_eq!(texts.len(), batch as usize, "as many texts as the program takes");
        let unit = f64::from(1 << NORMED);
        let mut rows = Vec::new();
        let mut columns = Vec::new();
        for ids in texts {
            assert!(
                ids.len() <= tokens as usize && (padded || ids.len() == tokens as usize),
                "a text that fits"
            );
            let padding = ids.last().into_iter().cycle().take(tokens as usize - ids.len());
            let all: Vec<u32> = ids.iter().chain(padding).copied().collect();
            rows.extend(model.embed(&all).into_iter().map(|x| (x * unit).round_ties_even() as i64));
            columns.extend((0..tokens as usize).map(|at| i64::from(at >= ids.len())));
        }
        let mask = |bits: &i16| columns.iter().map(|on| on * (i64::from(*bits) << SCORE)).collect();
        std::iter::once(rows).chain(self.masks.iter().map(mask)).collect()
    }

    /// The vectors of the texts, from the program's output.
    ///
    /// # Panics
    /// If the output has another size.
    #[must_use]
    pub fn vectors<'a>(&self, model: impl Into<Ends<'a>>, texts: &[&[u32]], output: &[i64]) -> Vec<Vec<f64>> {
        let model = model.into();
        let hidden = model.config.hidden as usize;
        let of_text = self.length.tokens as usize * hidden;
        assert_eq!(output.len(), of_text * texts.len(), "an output of the program's size");
        let norm = model.last;
        let unit = f64::from(1 << NORMED);
        let scaled =
            |(x, (gain, bias)): (&i64, (&f32, &f32))| *x as f64 / unit * f64::from(*gain) + f64::from(*bias);
        let outputs = texts.iter().zip(output.chunks_exact(of_text));
        outputs
            .map(|(ids, output)| {
                let rows: Vec<Vec<f64>> = output
                    .chunks_exact(hidden)
                    .take(ids.len())
                    .map(|row| row.iter().zip(norm.gain.iter().zip(&norm.bias)).map(scaled).collect())
                    .collect();
                model.pooling.apply(rows.iter().map(Vec::as_slice))
            })
            .collect()
    }
}
