"""Search the settings of SENCA-st with Optuna, and test the choice on patients left out of it."""

from senca_ray.recipe import search_command

main = search_command(
    name="tune",
    title="Search of SENCA-st's settings",
    space={
        "mse_weight": "1..100:log",
        "neighbors": "4..16:2",
        "hvgs": "200..1000:100",
        "embedding": "32,64,128,256",
        "hidden": "64,128,256,512",
        "dropout": "0..0.5",
        "temperature": "0.1..1:log",
        "learning_rate": "1e-4..5e-3:log",
        "epochs": "5..40:5",
    },
    explain="""Search λ, neighbours, HVGs, sizes, dropout, temperature, step size and epochs over a cohort.

A suggestion is fitted on all tuning sections side by side, and Optuna sees one number for it. One that is
already significantly worse than the best is stopped early. By default every patient is left out in turn:
settings are chosen on the others' sections and scored on the one left out. Only those scores are called test
scores.

All sections of a search have to be of one kind (with or without image; annotated or transferred labels):
choose them with --sample. The Optuna storage, optuna.db in the study's folder, opens in optuna-dashboard.

\b
Without labels, by a score that needs none:
  python experiments/tune.py --data DIR --objective stability --k auto
""",
)

if __name__ == "__main__":
    main()
