"""Search for the settings of a member of the ensemble: Optuna proposes, rows that the member was not fitted on judge, joblib spreads."""
