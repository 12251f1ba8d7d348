//! What is part of the program: plans of models that are known, and texts on which ranges are measured where there is no plan.

use crate::Plan;

/// Plans, each of one model.
const PLANS: [&str; 1] = [include_str!("../../../config/models/all-minilm-l6-v2.toml")];

/// Texts, one a line.
const SENTENCES: &str = include_str!("sentences.txt");

/// The plan of the model with this digest, if it is part of the program.
#[must_use]
pub fn plan(model: &[u8; 32]) -> Option<Plan> {
    // A test parses them all.
    PLANS.iter().filter_map(|text| Plan::parse(text).ok()).find(|plan| plan.model == *model)
}

/// Texts of many kinds: short and long, languages, programs, numbers, and the tokenizer's own tokens.
pub fn sentences() -> impl Iterator<Item = &'static str> {
    SENTENCES.lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plans_parse() {
        for text in PLANS {
            let read = Plan::parse(text).expect("a plan");
            assert_eq!(Plan::parse(&read.to_toml()), Ok(read));
        }
    }
}
