"""Effect of λ, the weight of the reconstruction term in eq. 1, on your sections."""

from senca_ray.recipe import sweep_command

main = sweep_command(
    name="sweep-lambda",
    title="Effect of λ, the weight of reconstruction (SENCA-st, eq. 1)",
    vary="mse_weight",
    values=(1.0, 10.0, 40.0, 100.0),
    explain="""Fit SENCA-st with λ = 1, 10, 40 (the paper's) and 100 on every section and compare.

λ weighs reconstruction against the contrastive terms, so it matters on sections with an image; without one
the loss has no other term and λ is only a factor of it.
""",
)

if __name__ == "__main__":
    main()
