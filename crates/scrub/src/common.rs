//! Words too common to identify anybody on their own. A name made of them still matches as a
//! whole ("Young, Ray"), and the name detectors still see "Mr. Young".

/// Whether a folded word must never match alone.
pub(crate) fn is_common(word: &str) -> bool {
    COMMON.split_ascii_whitespace().any(|common| common == word)
}

/// Placeholders, DICOM terms, and English or radiology words that are also names.
const COMMON: &str = "
anonymous anonymized anonymised anon anonymize deidentified removed unknown none null test patient
text contains display finding name nobody dummy phantom sample example other undefined default empty hospital clinic department
institution radiology medical center centre university health system imaging clinical general
chest thorax lung lungs heart head neck abdomen pelvis spine skull hand foot knee hip shoulder
ankle elbow wrist extremity breast brain bone body whole rib ribs arm leg back
portable lateral frontal supine erect upright view image images series study original derived
primary secondary post pre left right upper lower middle apex base wall field line lines tube
male female sex date time year years old day days night week month last first second third
manual auto standard normal abnormal acute chronic mild small large long short high low deep wide
young white black brown green gray grey red rose ray rays may will mark marks grant page case
price cross close sharp hope joy art pace best good love hill wood woods stone field bell park
west east north south king bishop cook baker miller carter mason porter hunter fisher drew frank
bill jack pat rich rob sue dawn faith grace summer autumn april june august drain cough fever
pain mass nodule node opacity effusion edema oedema pneumonia pneumothorax consolidation shadow
with without from this that there here than then when where which what show shows seen clear
free air fluid the and for are was has had not but all any can did who how her his him she one two
new now out off per via yes dose film films plate grid tip tips port wire wires clip clips
reason history query question report findings impression indication comparison technique
cloister basic application confidentiality profile table code dicom digital computed radiography radiograph xray monochrome explicit implicit
reyes stent foley swan ganz hickman dobhoff kerley cooper paget cushing wilson down turner
hodgkin crohn crohns parkinson alzheimer marfan barrett colles galeazzi hampton westermark
";
