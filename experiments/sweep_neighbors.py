"""Effect of the neighbour count on SENCA-st: the paper's Table 5, on your sections."""

from senca_ray.recipe import sweep_command

main = sweep_command(
    name="sweep-neighbors",
    title="Effect of the neighbour count (SENCA-st, Table 5)",
    vary="neighbors",
    values=(4, 8, 16),
    explain="""Fit SENCA-st with 4, 8 and 16 neighbours on every section and compare.

Every value is fitted on every section with every seed, beside the controls: the same network untrained,
smoothed PCA, smoothed image features, coordinates alone. The study's folder ends with results.parquet (a row
a fit), summary.csv (the comparison, with paired tests) and report.html. Running the same command again goes
on where it stopped.

    python experiments/sweep_neighbors.py                                   the embedded simulated cohort

    python experiments/sweep_neighbors.py --data her2st/data --format her2st    your sections
""",
)

if __name__ == "__main__":
    main()
