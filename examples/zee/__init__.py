"""Energy scale of a calorimeter's barrel (EB) and endcaps (EE) from Z → ee: the payload code of the example workflow.

Nothing here knows about workflows: each module with a command line is a job that reads files and writes files.

========== =====================================================================================
events     the layout of event files, the mass formula, the selection
generator  random Z → ee and background events as a detector would record them
simulate   runs, fills, drifting scales: writes event files, ``runs.csv`` and ``truth.json``
laser      job: transparency corrections of a group of runs
select     job: one block of one run's events → selected events
model      expected bin contents: Breit–Wigner ⊗ Crystal Ball + exponential
fit        the simultaneous maximum-likelihood fit
tune       tail parameters and residual bias from simulation → ``tail_parameters.json``
scale      job: selected events of a group → scales and their covariance
closure    job: constants of even events applied to odd ones, refitted
plots      pictures of spectra and of scales against time
report     injected against recovered scales
jobio      what the jobs share: errors, reports, files written whole or not at all
========== =====================================================================================
"""
