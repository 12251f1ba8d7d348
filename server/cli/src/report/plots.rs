//! Plots as inline SVG, one small chart per model, so that they can stand side by side or one below the other.

use std::error::Error;

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::IntoDrawingArea,
    element::{Circle, Rectangle},
    prelude::{EmptyElement, IntoFont, SVGBackend, Text},
    series::LineSeries,
    style::{
        Color, RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{records::Record, slopes::Slope, tables};

/// Size of a chart in pixels: as wide as a phone.
const SIZE: (u32, u32) = (400, 300);

/// Colours that can be told apart by most eyes (Okabe and Ito 2008).
const COMPUTE: RGBColor = RGBColor(0, 114, 178);
const BYTES: RGBColor = RGBColor(230, 159, 0);
const ROUNDS: RGBColor = RGBColor(0, 158, 115);
const PROJECTED: RGBColor = RGBColor(153, 153, 153);
const KEYS: RGBColor = RGBColor(204, 121, 167);
const INK: RGBColor = RGBColor(51, 51, 51);

/// A titled SVG.
pub(super) struct Chart {
    /// Its title.
    pub(super) title: String,
    /// What it shows, in one sentence, also for those who cannot see it.
    pub(super) caption: String,
    /// The drawing.
    pub(super) svg: String,
}

/// One bar: parts from the bottom up, and its label.
struct Bar {
    label: String,
    parts: Vec<f64>,
}

/// All charts of the report.
pub(super) fn charts(records: &[Record], slopes: &[Slope]) -> Result<Vec<Chart>, Box<dyn Error>> {
    let mut charts = Vec::new();
    let mut groups: Vec<(&str, &str)> = Vec::new();
    for record in records {
        let group = (record.model.as_str(), record.link.as_str());
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for (model, link) in &groups {
        let own: Vec<_> = in_group(records, model, link).collect();
        let bars = own.iter().map(|record| Bar {
            label: record.protocol.clone(),
            parts: vec![record.comp_ms, record.bytes_ms(), record.rounds_ms()],
        });
        let parts = [("compute", COMPUTE), ("bytes and waiting", BYTES), ("rounds x delay", ROUNDS)];
        charts.push(Chart {
            title: format!("{model}, {link}: evaluation, ms"),
            caption: "Measured time of one gate, split into its causes.".into(),
            svg: stacked(&bars.collect::<Vec<_>>(), &parts)?,
        });
    }
    let mut models: Vec<&str> = groups.iter().map(|(model, _)| *model).collect();
    models.dedup();
    for model in models {
        let link = groups.iter().find(|(found, _)| *found == model).map_or("", |(_, link)| link);
        let bars = in_group(records, model, link)
            .map(|record| Bar { label: record.protocol.clone(), parts: vec![record.key_bytes_per_elem()] });
        charts.push(Chart {
            title: format!("{model}: key bytes per element"),
            caption: "Gate key of one party, mean of both.".into(),
            svg: stacked(&bars.collect::<Vec<_>>(), &[("key bytes", KEYS)])?,
        });
    }
    for (model, link) in groups.iter().filter(|(_, link)| matches!(*link, "lan" | "wan")) {
        let bars = in_group(records, model, link).flat_map(|record| {
            let base = tables::base_of(records, record);
            let projected_s = if *link == "lan" { base.lan_proj_s } else { base.wan_proj_s };
            [
                Bar { label: record.protocol.clone(), parts: vec![record.eval_ms, 0.0] },
                Bar { label: "projected".into(), parts: vec![0.0, projected_s * 1e3] },
            ]
        });
        charts.push(Chart {
            title: format!("{model}, {link}: measured and projected, ms"),
            caption: "Measured time of one gate beside the published formula for the same gate.".into(),
            svg: stacked(&bars.collect::<Vec<_>>(), &[("measured", COMPUTE), ("projected", PROJECTED)])?,
        });
    }
    if !slopes.is_empty() {
        charts.push(Chart {
            title: "Evaluation over delay, ms".into(),
            caption: "Points: measured on links of different delay. The slope of each line is its number of rounds."
                .into(),
            svg: lines(slopes)?,
        });
    }
    Ok(charts)
}

fn in_group<'a>(records: &'a [Record], model: &'a str, link: &'a str) -> impl Iterator<Item = &'a Record> {
    records.iter().filter(move |record| record.model == model && record.link == link)
}

/// Each protocol's points and the line through them.
fn lines(slopes: &[Slope]) -> Result<String, Box<dyn Error>> {
    const COLORS: [RGBColor; 5] = [COMPUTE, BYTES, ROUNDS, KEYS, INK];
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let points = || slopes.iter().flat_map(|slope| &slope.points);
        let right = points().map(|point| point.0).fold(1.0, f64::max) * 1.05;
        // Room above for the legend.
        let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.5;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(6)
            .y_labels(5)
            .x_desc("delay of one direction, ms")
            .label_style(("sans-serif", 12, &INK))
            .draw()?;
        for (slope, color) in slopes.iter().zip(COLORS.iter().cycle().copied()) {
            let Slope { protocol, line, points, .. } = slope;
            let ends = [0.0, right].map(|delay| (delay, line.slope * delay + line.intercept));
            chart
                .draw_series(LineSeries::new(ends, color.stroke_width(2)))?
                .label(format!("{protocol}: {:.2}", line.slope))
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 12, &INK))
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Stacked bars with a legend.
fn stacked(bars: &[Bar], parts: &[(&str, RGBColor)]) -> Result<String, Box<dyn Error>> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let total = |bar: &Bar| bar.parts.iter().sum::<f64>();
        // Room above the tallest bar for its figure and the legend.
        let top = bars.iter().map(total).fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.35;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(48)
            .build_cartesian_2d(0.0..bars.len() as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .light_line_style(WHITE)
            .y_labels(5)
            .label_style(("sans-serif", 12, &INK))
            .draw()?;
        for (part, (name, color)) in parts.iter().enumerate() {
            let rectangles = bars.iter().enumerate().map(|(place, bar)| {
                let below: f64 = bar.parts[..part].iter().sum();
                let (left, right) = (place as f64 + 0.2, place as f64 + 0.8);
                Rectangle::new([(left, below), (right, below + bar.parts[part])], color.filled())
            });
            let color = *color;
            chart
                .draw_series(rectangles)?
                .label(*name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
        }
        // The axis of the bars, and each bar's name below and figure above it.
        chart.draw_series(LineSeries::new([(0.0, 0.0), (bars.len() as f64, 0.0)], &INK))?;
        let below = ("sans-serif", 12).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Top));
        let above = ("sans-serif", 12).into_font().color(&INK).pos(Pos::new(HPos::Center, VPos::Bottom));
        chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
            EmptyElement::at((place as f64 + 0.5, 0.0)) + Text::new(bar.label.clone(), (0, 6), below.clone())
        }))?;
        chart.draw_series(bars.iter().enumerate().map(|(place, bar)| {
            let figure = format!("{:.1}", total(bar));
            EmptyElement::at((place as f64 + 0.5, total(bar))) + Text::new(figure, (0, -4), above.clone())
        }))?;
        if parts.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .label_font(("sans-serif", 12, &INK))
                .draw()?;
        }
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{records::tests::example, slopes::tests::example as example_slope};

    #[test]
    fn there_is_a_chart_for_each_model_and_link_and_for_each_models_keys() {
        let records = [example("onehot", "loopback"), example("sigma", "loopback"), example("onehot", "wan")];
        let titles: Vec<_> = charts(&records, &[example_slope("onehot", 3)])
            .unwrap()
            .into_iter()
            .map(|chart| chart.title)
            .collect();
        assert_eq!(
            titles,
            [
                "bert-base, loopback: evaluation, ms",
                "bert-base, wan: evaluation, ms",
                "bert-base: key bytes per element",
                "bert-base, wan: measured and projected, ms",
                "Evaluation over delay, ms",
            ]
        );
    }

    #[test]
    fn a_line_is_named_with_its_slope() {
        let svg = lines(&[example_slope("onehot", 3), example_slope("sigma", 7)]).unwrap();
        for text in ["onehot: 3.00", "sigma: 7.00", "delay of one direction"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }

    #[test]
    fn a_chart_shows_every_bar_and_its_total() {
        let bars = [
            Bar { label: "sigma".into(), parts: vec![3.0, 1.5] },
            Bar { label: "onehot".into(), parts: vec![0.0, 0.0] },
        ];
        let svg = stacked(&bars, &[("compute", COMPUTE), ("bytes", BYTES)]).unwrap();
        for text in ["sigma", "onehot", "4.5", "0.0", "compute", "bytes"] {
            assert!(svg.contains(text), "{text} is missing");
        }
    }
}
