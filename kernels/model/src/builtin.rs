//! What is part of the program: plans of models that are known, and texts on which ranges are measured where there is no plan.

use crate::Plan;

/// Plans, each of one model, with its name.
const PLANS: [(&str, &str); 1] =
    [("all-minilm-l6-v2", include_str!("../../../config/models/all-minilm-l6-v2.toml"))];

/// Texts, one a line.
const SENTENCES: &str = include_str!("sentences.txt");

/// The plan of the model with this digest, if it is part of the program.
#[must_use]
pub fn plan(model: &[u8; 32]) -> Option<Plan> {
    known(model).map(|(_, plan)| plan)
}

/// What the model with this digest is called, if its plan is part of the program.
#[must_use]
pub fn name(model: &[u8; 32]) -> Option<&'static str> {
    known(model).map(|(name, _)| name)
}

fn known(model: &[u8; 32]) -> Option<(&'static str, Plan)> {
    // A test parses them all.
    let plans = PLANS.iter().filter_map(|(name, text)| Some((*name, Plan::parse(text).ok()?)));
    plans.into_iter().find(|(_, plan)| plan.model == *model)
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
        for (_, text) in PLANS {
            let read = Plan::parse(text).expect("a plan");
            assert_eq!(Plan::parse(&read.to_toml()), Ok(read));
        }
    }
}
