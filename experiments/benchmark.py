"""Methods against each other on your sections: the paper's Table 1, with the controls it leaves out."""

from senca_ray.recipe import benchmark_command

main = benchmark_command(
    name="benchmark",
    title="Methods against each other (Table 1)",
    explain="""Run SENCA-st, null controls, simple methods and published ones on every section, with the same
protocol, and test the reference against every other.

\b
model      SENCA-st
null       the untrained network, coordinates, depth, random regions:
           what a score is worth
simple     principal components, smoothed or not, Pearson residuals, image
           features: strong, and quick
published  other papers' methods, in the authors' own package where there is
           one (`senca methods install NAME`), else reimplemented

A method that is not installed is reported missing, never replaced. All readings of a score that a paper can
choose (k, undetermined spots, refinement, clustering) are options here and stand in the table's heading; a
sensitivity table shows what the ranking owes to them.

\b
Quick: the simple methods and nulls alone
  python experiments/benchmark.py --method simple --method null
""",
)

if __name__ == "__main__":
    main()
