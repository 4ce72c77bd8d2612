//! The order of nodes, cycles told as `a -> b -> a`, and pictures of the whole.

use std::fmt::Write;

use crate::check::{Node, Pipeline, Source};

/// Indices of nodes, inputs before consumers, otherwise as in the file; or the names along a cycle.
pub fn order(nodes: &[Node]) -> Result<Vec<usize>, Vec<String>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        No,
        Above,
        Done,
    }
    let parents: Vec<_> = nodes.iter().map(Node::parents).collect();
    let mut seen = vec![Seen::No; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    for start in 0..nodes.len() {
        // A path from a consumer down to its inputs; the number is how many of them were looked at.
        let mut path = vec![(start, 0)];
        while let Some((node, next)) = path.pop() {
            if seen[node] == Seen::Done {
                continue;
            }
            seen[node] = Seen::Above;
            match parents[node].get(next) {
                None => {
                    seen[node] = Seen::Done;
                    order.push(node);
                }
                Some(&parent) => {
                    path.push((node, next + 1));
                    if seen[parent] == Seen::Above {
                        // From the parent to where the path is now; an edge points from input to consumer.
                        let from = path.iter().position(|(node, _)| *node == parent).unwrap_or(0);
                        let mut cycle: Vec<_> =
                            path[from..].iter().rev().map(|(node, _)| nodes[*node].name.clone()).collect();
                        cycle.insert(0, nodes[parent].name.clone());
                        return Err(cycle);
                    }
                    path.push((parent, 0));
                }
            }
        }
    }
    Ok(order)
}

/// One line per node: what it calls and reads.
pub fn text(pipeline: &Pipeline) -> String {
    let width = pipeline.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for &index in &pipeline.order {
        let node = &pipeline.nodes[index];
        let reads: Vec<_> = node
            .inputs
            .iter()
            .map(|input| match &input.source {
                Source::Node(index) => pipeline.nodes[*index].name.clone(),
                Source::File(path) => path.display().to_string(),
            })
            .collect();
        let stage = if node.stage == node.name { String::new() } else { format!(" ({})", node.stage) };
        let _ = writeln!(text, "{:width$}{stage} <- {}", node.name, reads.join(", "));
    }
    text
}

/// A Mermaid flowchart.
pub fn mermaid(pipeline: &Pipeline) -> String {
    let mut text = "flowchart LR\n".to_string();
    edges(pipeline, |consumer, port, source| match source {
        Ok(node) => writeln!(text, "  {node} -->|{port}| {consumer}"),
        Err(file) => writeln!(text, "  f{:x}[/\"{file}\"/] -->|{port}| {consumer}", short(file)),
    });
    text
}

/// A Graphviz digraph.
pub fn dot(pipeline: &Pipeline) -> String {
    let mut text = "digraph pipeline {\n  rankdir = LR\n  node [shape = box]\n".to_string();
    edges(pipeline, |consumer, port, source| match source {
        Ok(node) => writeln!(text, "  \"{node}\" -> \"{consumer}\" [label = \"{port}\"]"),
        Err(file) => {
            writeln!(text, "  \"{file}\" [shape = note]\n  \"{file}\" -> \"{consumer}\" [label = \"{port}\"]")
        }
    });
    text + "}\n"
}

fn edges(pipeline: &Pipeline, mut edge: impl FnMut(&str, &str, Result<&str, &str>) -> std::fmt::Result) {
    for &index in &pipeline.order {
        let node = &pipeline.nodes[index];
        for input in &node.inputs {
            let file;
            let source = match &input.source {
                Source::Node(index) => Ok(pipeline.nodes[*index].name.as_str()),
                Source::File(path) => {
                    file = path.display().to_string().replace('"', "'");
                    Err(file.as_str())
                }
            };
            let _ = edge(&node.name, &input.port, source);
        }
    }
}

/// A name for a file that Mermaid accepts.
fn short(file: &str) -> u32 {
    file.bytes().fold(2_166_136_261, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(16_777_619))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Input;
    use std::collections::BTreeMap;

    fn node(name: &str, parents: &[usize]) -> Node {
        let input = |parent: &usize| Input { port: "x".into(), name: None, source: Source::Node(*parent) };
        Node {
            name: name.into(),
            stage: name.into(),
            inputs: parents.iter().map(input).collect(),
            params: BTreeMap::new(),
        }
    }

    #[test]
    fn inputs_come_before_consumers() {
        let nodes = [node("c", &[1, 2]), node("b", &[2]), node("a", &[]), node("d", &[0])];
        assert_eq!(order(&nodes).unwrap(), [2, 1, 0, 3]);
    }

    #[test]
    fn a_cycle_is_told_along_its_edges() {
        // a reads c, b reads a, c reads b: data go a -> b -> c -> a.
        let nodes = [node("start", &[]), node("a", &[0, 3]), node("b", &[1]), node("c", &[2])];
        assert_eq!(order(&nodes).unwrap_err(), ["a", "b", "c", "a"]);
        assert_eq!(order(&[node("a", &[0])]).unwrap_err(), ["a", "a"]);
    }
}
